# SPDX-License-Identifier: Apache-2.0
"""The rooms of the package and what may import what; draws docs/images/architecture.svg.

    python3 scripts/architecture.py

Imports are read from the source, those inside of functions included, and nothing is run.
test/test_architecture.py holds the package to the order of `ROWS`.
"""

import ast
import html
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = 'rmpe_ros'
PICTURE = ROOT / 'docs' / 'images' / 'architecture.svg'
# An import stays in its room or goes to a lower row.
ROWS = (
    ('cli',),
    ('nodes', 'training'),
    ('evaluation', 'importing'),
    ('library', 'networks'),
    ('engines',),
    ('io',),
    ('models',),
    ('core',),
)
CONTENTS = {
    'cli': 'a file a command; starts nodes',
    'nodes': 'the ROS 2 nodes (rclpy)',
    'training': 'data, stages, the loop (torch)',
    'evaluation': 'labels, AP, PCKh, NMS tuning',
    'importing': "other people's networks",
    'library': 'pipeline, detector, estimator',
    'networks': 'SSTN-SPPE, detector, export (torch)',
    'engines': 'ONNX Runtime, TensorRT, cache, parity',
    'io': 'pictures, bags, messages, files',
    'models': 'finds model files',
    'core': 'boxes, poses, pose NMS, tracking',
}
# Outside libraries that only some rooms may import, at most within these modules.
HOMES = {
    'rclpy': ('rmpe_ros.nodes', 'rmpe_ros.cli.processes'),
    'torch': (
        *('rmpe_ros.networks', 'rmpe_ros.importing', 'rmpe_ros.training'),
        *('rmpe_ros.cli.train_command', 'rmpe_ros.cli.ablate_command'),
    ),
    'onnxruntime': ('rmpe_ros.engines', 'rmpe_ros.networks'),
}
CORE_MAY_IMPORT = {'numpy', 'cv2'}  # and the standard library

# Of the picture: columns, and sizes in pixels.
_COLUMNS = {'nodes': 0, 'training': 2, 'importing': 2, 'networks': 2}
_COLUMN, _ROW, _WIDTH, _HEIGHT = 290, 92, 260, 52


def modules() -> dict[str, Path]:
    """Every module of the package, a folder by the name of its `__init__.py`."""
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob('*.py')):
        parts = path.relative_to(ROOT).with_suffix('').parts
        found['.'.join(parts[:-1] if parts[-1] == '__init__' else parts)] = path
    return found


def room_of(module: str) -> str:
    """The room that a module of the package is in; loose files but `models` are the library."""
    name = module.split('.')[1] if '.' in module else ''
    if name == '__main__':
        return 'cli'
    return name if name in CONTENTS else 'library'


def read_imports() -> dict[str, set[str]]:
    """Module → what it imports: modules of the package in full, others by their first name."""
    known = modules()
    imports: dict[str, set[str]] = {}
    for module, path in known.items():
        names = set()
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                inner = {f'{node.module}.{alias.name}' for alias in node.names}
                # `from package import module`, or a name that a module has.
                names |= (inner & known.keys()) or {node.module}
            elif isinstance(node, ast.ImportFrom):
                raise ValueError(f'{path}:{node.lineno}: import by the full name, not relatively')
        ours = {name for name in names if name.partition('.')[0] == PACKAGE and name in known}
        others = {name.partition('.')[0] for name in names} - {PACKAGE}
        imports[module] = ours | others
    return imports


def room_imports(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """Room → the other rooms that its modules import."""
    rooms: dict[str, set[str]] = {room: set() for room in CONTENTS}
    for module, names in imports.items():
        rooms[room_of(module)] |= {room_of(n) for n in names if n.partition('.')[0] == PACKAGE}
    return {room: names - {room} for room, names in rooms.items()}


def reach(imports: dict[str, set[str]], starts: set[str]) -> set[str]:
    """All that is imported from `starts`, directly or not, themselves included."""
    found: set[str] = set()
    waiting = list(starts)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += imports.get(name, ())
    return found


def draw() -> str:
    """The rooms as SVG; arrows that follow from others are left out."""
    rooms = room_imports(read_imports())
    places = {
        name: (_COLUMN * _COLUMNS.get(name, 1) + _COLUMN // 2, 10 + row * _ROW)
        for row, names in enumerate(ROWS)
        for name in names
    }
    lines, boxes = [], []
    for room, targets in rooms.items():
        implied = set().union(*(reach(rooms, {other}) - {other} for other in targets))
        for target in sorted(targets - implied):
            (x1, y1), (x2, y2) = places[room], places[target]
            side = (x2 > x1) - (x2 < x1)
            lines.append(
                f'<path d="M{x1 + 60 * side} {y1 + _HEIGHT} L{x2 - 100 * side} {y2 - 2}" '
                'marker-end="url(#tip)"/>'
            )
    for name, (x, y) in places.items():
        title = 'rmpe_ros (library)' if name == 'library' else name
        boxes.append(
            f'<rect x="{x - _WIDTH // 2}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>'
            f'<text x="{x}" y="{y + 21}" class="name">{title}</text>'
            f'<text x="{x}" y="{y + 41}">{html.escape(CONTENTS[name], quote=False)}</text>'
        )
    width, height = 3 * _COLUMN, (len(ROWS) - 1) * _ROW + _HEIGHT + 20
    return '\n'.join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            'font-family="sans-serif" font-size="13" text-anchor="middle">',
            '<style>path{stroke:#567;stroke-width:1.5}rect{fill:#eef3f8;stroke:#567}'
            '.name{font-weight:bold;font-size:15px}</style>',
            '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8"'
            ' orient="auto"><path d="M0 0L8 4L0 8z" fill="#567"/></marker>',
            f'<rect width="{width}" height="{height}" style="fill:white;stroke:none"/>',
            *lines,
            *boxes,
            '</svg>\n',
        ]
    )


if __name__ == '__main__':
    PICTURE.write_text(draw(), encoding='utf-8')
    print(PICTURE)
