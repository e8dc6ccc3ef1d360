"""The options of the stage deploy-e2e. A wrong one is refused before the stages before it, which take minutes, have run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ops.config import load
from ops.errors import ConfigError, Refused

# The options, each with whether it takes a value, as ``python -m ground deploy-e2e`` takes them.
OPTIONS: Mapping[str, bool] = {"--site": True, "--keep": False, "--rehearse": False}
_LOCAL = Path("sites/local.toml")
_UNCHANGED = "no stage ran"


def are_valid(options: Sequence[object]) -> bool:
    """Return whether a run with these options is the whole stage: no option chooses among its tests."""
    try:
        list(_parsed([str(each) for each in options]))
    except ConfigError:
        return False
    return True


def require(options: Sequence[str], root: Path) -> None:
    """Raise ConfigError for a wrong option or site file, Refused for disaster tests on another site than the local one.

    A relative path is one in the checkout ``root``.
    """
    given = dict(_parsed(options))
    if not (site := given.get("--site")):
        return
    load.load(root / site)
    if (root / site).resolve() == (root / _LOCAL).resolve():
        return
    if "--rehearse" in given:
        raise Refused(
            f"the disaster tests empty a site's database and destroy its host and disk: not on {site}",
            "run them on the local site: leave out --site",
            left_as=_UNCHANGED,
        )
    if "--keep" in given:
        raise ConfigError(
            f"--keep has no effect with --site {site}: only the local site is removed after the tests",
            "leave out --keep",
            left_as=_UNCHANGED,
        )


def _parsed(options: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Return each option with its value, "" for a switch; raises ConfigError for a wrong one."""
    words = iter(options)
    for word in words:
        name, equals, value = word.partition("=")
        if name not in OPTIONS or (equals and not OPTIONS[name]):
            raise _wrong(f"deploy-e2e has no option {word}")
        if OPTIONS[name]:
            value = value if equals else next(words, "")
            if not value or value.startswith("-"):
                raise _wrong(f"{word} of deploy-e2e needs a site file")
        yield name, value


def _wrong(message: str) -> ConfigError:
    return ConfigError(message, "give --rehearse, --keep or --site FILE behind --", left_as=_UNCHANGED)
