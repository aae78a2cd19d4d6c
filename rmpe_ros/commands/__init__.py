# SPDX-License-Identifier: Apache-2.0
"""Subcommands of `rmpe`. Each module has `add_parser(subparsers)` and `run(args) -> exit code`.

`add_parser` sets `run` as the parser's default. Modules here import only the standard library at
their top, so that `rmpe --help` is quick and `rmpe doctor` runs where a library is missing.
"""
