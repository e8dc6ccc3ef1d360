"""The last resort of docs/runbooks/stranded.md names the paths, units, options and formats that the code has.

tests/disaster/parts/test_rescue_by_hand.py runs its commands.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from ops.backup import manifest, repositories
from ops.config.paths import COMPOSE_DIRECTORY, PROJECT, SECRETS_DIRECTORY, HostPaths
from ops.restore.staging import ASIDE, staging_of
from ops.secrets import store
from ops.update.change_settings import BEFORE
from ops.update.journal import DATA, UpdateContext
from ops.world import postgres, restic
from tests.support import fakes

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/runbooks/stranded.md").read_text()
LAST_RESORT = PAGE[PAGE.index("### 4.") : PAGE.index("## How to check")]
PATHS = HostPaths()
UPDATE = UpdateContext(fakes.site(), None, PATHS)  # type: ignore[arg-type]
# Folders that the page's own commands make.
MADE = {"/srv/gitea/rescue", "/srv/gitea/rescued"}


def _named(pattern: str) -> set[str]:
    return set(re.findall(pattern, LAST_RESORT))


def test_every_path_on_the_host_is_one_of_the_code() -> None:
    files: Any = yaml.safe_load((ROOT / "playbooks/roles/ops/vars/main.yml").read_text())["ops_files_alone"]
    known = {
        *(PATHS.data, PATHS.live, PATHS.local, PATHS.local.parent, PATHS.newest, PATHS.secrets),
        *(PATHS.secrets / "restic-password", PATHS.live / "gitea/conf/app.ini", *PATHS.configuration),
        *(PATHS.data / DATA[1], UPDATE.folder, UPDATE.snapshots, UPDATE.set_aside, UPDATE.snapshots / DATA[1]),
        *(
            staging_of(PATHS).aside,
            COMPOSE_DIRECTORY / ".env",
            COMPOSE_DIRECTORY / BEFORE,
            *(Path(each["dest"]) for each in files),
        ),
    }
    named = set(re.findall(r"(?<![\w.])/(?:srv|var/backups|run|opt|usr)(?:/[\w.-]+)+", PAGE))
    assert len(named) > 10
    assert {each for each in named if Path(each) not in known} <= MADE
    assert f"data{PATHS.snapshot}/{repositories.REPOSITORIES}/OWNER/NAME.git" in LAST_RESORT


def test_every_unit_is_one_of_the_host() -> None:
    units = {path.name.removesuffix(".service.j2") for path in (ROOT / "playbooks").rglob("*.service.j2")}
    files: Any = yaml.safe_load((ROOT / "playbooks/roles/ops/vars/main.yml").read_text())
    made = {Path(each["dest"]).stem for each in files["ops_files_alone"] if each["dest"].endswith(".service")}
    named = _named(r"gitea-suite(?:-[a-z]+)?(?=[ \n])")
    assert named == {"gitea-suite", "gitea-suite-wal"} <= units | made
    assert "'gitea-suite-*.timer'" in LAST_RESORT
    assert "'dest': '/etc/systemd/system/gitea-suite-' ~ timer.name ~ '.' ~ kind" in files["ops_templates"]
    assert "Automatic-Reboot" in (ROOT / "playbooks/roles/base/templates/upgrades.conf.j2").read_text()


def test_restic_s_address_options_and_files_are_those_of_a_backup() -> None:
    site = fakes.site()
    address = repositories.remote_address(site).replace(site.aws.region, "REGION").replace(site.backup.bucket, "BUCKET")
    assert f"RESTIC_REPOSITORY={address}\n" in LAST_RESORT
    assert f"RESTIC_REPOSITORY={PATHS.local} " in LAST_RESORT
    assert f"RESTIC_PASSWORD_FILE={PATHS.secrets / 'restic-password'} " in LAST_RESORT
    commands = _named(r"(?m)^restic .*")
    assert len(commands) == 4
    assert all(each.startswith(f"{' '.join(restic._OPEN)} ") and "--no-lock" in each for each in commands)
    assert _named(r"(?:dump|restore) --no-lock ([A-Z]+)") == {each.upper() for each in manifest.PARTS}
    assert f"DATABASE /{repositories.DUMP} " in LAST_RESORT
    assert _named(r"s3://BUCKET/([a-z]+)/") == {manifest.PREFIX.rstrip("/")}
    part = json.loads(manifest.to_json(fakes.made(fakes.FakeClock().now())))["parts"]["data"]
    assert {"remote", "local"} <= {*part}


def test_the_secrets_and_the_database_have_the_names_of_the_site() -> None:
    assert _named(r"--secret-id production/([a-z-]+)") == {"restic-password", "gitea-secret-key"} <= {*store.NAMES}
    assert SECRETS_DIRECTORY in LAST_RESORT
    assert _named(r"--username (\w+)") == {postgres.USER}
    assert _named(r"database `(\w+)`") == {ASIDE}
    compose: Any = yaml.safe_load((ROOT / "compose/compose.yaml").read_text())
    assert "/srv/gitea/rescue:" + compose["services"]["postgres"]["volumes"][0]["target"] in LAST_RESORT
    assert "`POSTGRES_IMAGE`" in LAST_RESORT
    assert compose["services"]["postgres"]["image"].startswith("${POSTGRES_IMAGE")
    assert compose["services"]["gitea"]["volumes"][0]["target"] == "/data"
    assert _named(r"grep .*'(gitea-suite/ops:)") == {f"{PROJECT}/ops:"}
