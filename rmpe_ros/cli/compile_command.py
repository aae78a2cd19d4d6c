# SPDX-License-Identifier: Apache-2.0
"""`rmpe compile`: TensorRT engines ahead of time, so that no robot waits for them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmpe_ros.cli.errors import tell
from rmpe_ros.io.file_guard import reads, writes

if TYPE_CHECKING:
    from rmpe_ros.engines.cache import EngineCache, Entry
    from rmpe_ros.engines.compilation import Job


def add_parser(subparsers: Any) -> None:
    """Declare the subcommand and its options."""
    parser = subparsers.add_parser(
        'compile',
        help='make TensorRT engines of the models, for this GPU or for others',
        description='Compile models to TensorRT engines and keep them where rmpe and the nodes '
        'look for them. With --backend tensorrt_rtx and --for, no GPU is needed. Exit code 1 when '
        'a model could not be compiled; the others are.',
    )
    parser.add_argument(
        'model',
        nargs='*',
        metavar='MODEL',
        help='shipped name or .onnx file (default: all shipped)',
    )
    parser.add_argument(
        '--backend',
        choices=('tensorrt', 'tensorrt_rtx'),
        help='which TensorRT (default: tensorrt_rtx with --for, else what this GPU works with)',
    )
    parser.add_argument(
        '--for',
        dest='targets',
        type=_targets,
        default=(),
        metavar='SM,…',
        help='GPU architectures such as sm86,sm89,sm120 (default: the GPU of this machine)',
    )
    parser.add_argument(
        '--precision',
        choices=('fp32', 'fp16', 'both'),
        default='fp32',
        help='fp16 is about twice as fast, and compared with fp32 (default: %(default)s)',
    )
    parser.add_argument(
        '--out',
        type=Path,
        metavar='DIR',
        help='folder of engines (default: RMPE_ENGINE_CACHE, else ~/.cache/rmpe_ros/engines)',
    )
    parser.add_argument('--force', action='store_true', help='compile again what is there already')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write what was compiled')
    reads(parser, 'model')
    writes(parser, '--json')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compile: 0, or 1 when a model could not be compiled."""
    from rmpe_ros.engines import EngineError
    from rmpe_ros.engines.cache import EngineCache
    from rmpe_ros.engines.cuda import find_gpu
    from rmpe_ros.io.files import write_file
    from rmpe_ros.models import SHIPPED_MODELS, find_model

    cache = EngineCache(args.out)
    # What is missing altogether is wrong usage (code 2); cli.main says it.
    models = [find_model(name) for name in args.model or SHIPPED_MODELS]
    precisions = ('fp32', 'fp16') if args.precision == 'both' else (args.precision,)
    gpu = None if args.targets else find_gpu()
    backend = args.backend or ('tensorrt_rtx' if args.targets else _best_backend())
    results: list[dict[str, Any]] = []
    for model in models:
        for precision in precisions:
            for target in args.targets or ('',):
                try:
                    result = _compile(
                        cache, model, backend, precision, target, gpu=gpu, force=args.force
                    )
                except EngineError as error:
                    tell(f'error: {error}', 'compile')
                    result = {'model': model.name, 'precision': precision, 'error': str(error)}
                results.append(result)
    failed = [result for result in results if 'error' in result]
    print(f'{len(results) - len(failed)} of {len(results)} engines are in {cache.folder}')
    if args.json:
        write_file(args.json, json.dumps(results, indent=2))
    return 1 if failed else 0


def _compile(
    cache: EngineCache,
    model: Path,
    backend: str,
    precision: str,
    target: str,
    *,
    gpu: Any,
    force: bool,
) -> dict[str, Any]:
    from rmpe_ros.engines.compilation import compile_model, open_compiled, plan_job
    from rmpe_ros.io.progress import Progress

    job = plan_job(model, backend=backend, precision=precision, target=target, gpu=gpu)
    was_built = False
    with Progress(100, 'step', f'{job.name} {precision} for {job.target}') as progress:

        def report(share: float) -> None:
            nonlocal was_built
            was_built = True
            progress.reach(round(share * 100))

        if gpu is None:
            entry = compile_model(job, cache=cache, report=report, rebuild=force)
        else:
            # With the GPU at hand the engine is also run and compared with ONNX Runtime.
            engine = open_compiled(
                model,
                backend=backend,
                precision=precision,
                cache=cache,
                report=report,
                rebuild=force,
            )
            engine.close()
            stored = cache.read(job.key)
            if isinstance(stored, str):
                return {'model': job.name, 'precision': precision, 'error': stored}
            entry = stored
    print(_line(job, entry, was_built=was_built))
    return {
        'model': job.name,
        'backend': job.trt.__name__,
        'version': job.key.version,
        'target': job.target,
        'precision': precision,
        'file': str(cache.plan_path(job.key)),
        'bytes': len(entry.plan),
        'build_seconds': entry.build_seconds,
        'parity': entry.parity.detail,
    }


def _line(job: Job, entry: Entry, *, was_built: bool) -> str:
    took = f'built in {entry.build_seconds:.1f} s' if was_built else 'was there already'
    parity = entry.parity
    compared = 'not compared yet' if parity.status == 'not run' else parity.detail
    return (
        f'{job.name} {entry.key.precision} for {job.target}: {took}, '
        f'{len(entry.plan) / 1e6:.1f} MB, {compared}'
    )


def _best_backend() -> str:
    from rmpe_ros.engines import EngineError
    from rmpe_ros.engines.selection import find_obstacle

    obstacles = {name: find_obstacle(name) for name in ('tensorrt', 'tensorrt_rtx')}
    for name, obstacle in obstacles.items():
        if not obstacle:
            return name
    reasons = '; '.join(f'{name}: {obstacle}' for name, obstacle in obstacles.items())
    raise EngineError(
        f'no TensorRT works with the GPU of this machine ({reasons}); see docs/tensorrt.md, or '
        'compile for another machine with --for sm86'
    )


def _targets(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(each.strip().lower() for each in text.split(',') if each.strip()))
    bad = [name for name in names if not (name.startswith('sm') and name[2:].isdigit())]
    if bad or not names:
        raise argparse.ArgumentTypeError(
            f'architectures are written like sm86,sm89,sm120; got {text!r}'
        )
    return names
