# SPDX-License-Identifier: Apache-2.0
"""`pip install .`: the library, its models and the `rmpe` command, without ROS.

A ROS 2 workspace is built by CMakeLists.txt instead, with the messages and the nodes.
"""

import re
from pathlib import Path

from setuptools import find_namespace_packages, setup

ROOT = Path(__file__).parent


def read_requirements(name: str) -> list[str]:
    """The requirements in requirements/<name>.in and in the files that it includes."""
    requirements = []
    for line in (ROOT / 'requirements' / f'{name}.in').read_text(encoding='utf-8').splitlines():
        if line.startswith('-r '):
            requirements += read_requirements(line.removeprefix('-r ').removesuffix('.in'))
        elif line and not line.startswith('#'):
            requirements.append(line)
    return requirements


def read_version() -> str:
    """The version of the library, which is also that in package.xml."""
    found = re.search(
        r"^__version__ = '(.+)'$",
        (ROOT / 'rmpe_ros' / '__init__.py').read_text(encoding='utf-8'),
        re.MULTILINE,
    )
    if found is None:
        raise ValueError("rmpe_ros/__init__.py has no line like __version__ = '1.2.3'")
    return found[1]


# In the wheel, models/ is rmpe_ros/share/models and so on, as rmpe_ros.models is a module.
data = {
    f'rmpe_ros.share.{folder}': folder
    for folder in ('config', 'models', 'msg')
    if (ROOT / folder).is_dir()
}
readme = ROOT / 'README.md'

setup(
    name='rmpe_ros',
    version=read_version(),
    description='Multi-person pose estimation with RMPE, for ROS 2 and without it',
    long_description=readme.read_text(encoding='utf-8') if readme.is_file() else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    packages=[*find_namespace_packages(include=['rmpe_ros', 'rmpe_ros.*']), *data],
    package_dir=data,
    package_data={package: ['**'] for package in data}
    | {
        'rmpe_ros': ['py.typed'],
        'rmpe_ros.engines': ['*.jpg'],
        'rmpe_ros.evaluation.page': ['*.css', '*.js'],
    },
    include_package_data=False,
    python_requires='>=3.10',
    install_requires=read_requirements('runtime'),
    extras_require={
        'train': read_requirements('torch') + read_requirements('train'),
        'evaluate': read_requirements('evaluate'),
        'tensorrt': read_requirements('tensorrt'),
        'completion': read_requirements('completion'),
        'video': read_requirements('video'),
        'dev': read_requirements('test'),
    },
    entry_points={'console_scripts': ['rmpe = rmpe_ros.cli.main:main']},
    zip_safe=False,
)
