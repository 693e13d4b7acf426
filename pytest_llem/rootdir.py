"""One rootdir for both spellings of `--campaign`.

pytest derives its rootdir from the command line before it knows our options, and so takes the FILE of
`--campaign FILE` for a path of tests; of `--campaign=FILE` it sees an option. The second view is right: where
the cache lies must not depend on a space.
"""

from __future__ import annotations

import pytest
from _pytest.config.findpaths import determine_setup


def settle(config: pytest.Config) -> None:
    """Give `config` the rootdir that it has with `--campaign=FILE`.

    pytest offers no public way to do it; the attributes are those of 9.0 to 9.2, and a test holds both
    spellings against each other.
    """
    known = config.known_args_namespace
    rootdir, inipath, inicfg, *_ = determine_setup(
        inifile=known.inifilename,
        override_ini=known.override_ini,
        args=known.file_or_dir,
        rootdir_cmd_arg=known.rootdir or None,
        invocation_dir=config.invocation_params.dir,
    )
    if (rootdir, inipath) == (config.rootpath, config.inipath):
        return
    config._rootpath = rootdir  # noqa: SLF001
    config._inipath = inipath  # noqa: SLF001
    config._inicfg = inicfg  # noqa: SLF001
    config._inicache.clear()  # noqa: SLF001
    known.confcutdir = str(inipath.parent if inipath else rootdir)
