"""Each tool takes each site file that `ops site` accepts: Terraform, Ansible, Compose and nginx, on drawn site files.

The cheap checks run for all of them, the dear ones for a sample; DRAWN_SITES sets how many are drawn.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jinja2
import pytest

from ground.container import RUN_LABEL
from ops.config import app_ini, settings_file
from ops.config.gitea_settings import secret_of
from ops.config.load import site_from
from ops.config.schema import Site
from ops.config.setting_variables import variable
from ops.config.tool_variables import ansible_variables, compose_environment, host_document, terraform_variables
from ops.images import pins
from ops.world.ansible import environment
from ops.world.ansible_variables import as_data
from ops.world.environment import environment_for
from ops.world.terraform_mirror import cli_configuration, discover
from ops.world.terraform_program import command
from tests.support.compose_stack import self_signed_certificate
from tests.support.drawn_sites import ROOT, drawn, read_settings, wanted

Record = Callable[[str, object], None]
COMPOSE, PLAYBOOKS = ROOT / "compose", ROOT / "playbooks"
IMAGES = {name: str(pin) for name, pin in pins.pinned(COMPOSE).items()}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJnBYYK2nfVrCmxZ8RmWMZPfsOpnIbDdp0ggoB0t3xGh"
WRITTEN, VALIDATED, PLANNED, PLAYED = 20, 10, 3, 2
pytestmark = pytest.mark.timeout(3600)


@pytest.fixture(scope="module")
def sites() -> list[Site]:
    return drawn(wanted())


@pytest.fixture(scope="module")
def settings(sites: list[Site]) -> list[str]:
    """The .env of each site, from the role's template; the sample shows that Ansible writes the same bytes."""
    template = _jinja().from_string((PLAYBOOKS / "roles/gitea/templates/environment.j2").read_text(encoding="utf-8"))
    given = {"ansible_managed": "Ansible managed", "gitea_compose_files": ["compose.yaml"]}
    return [template.render(given, gitea_environment=compose_environment(site, IMAGES)) for site in sites]


def _jinja() -> jinja2.Environment:
    made = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True, autoescape=False)
    made.filters["regex_replace"] = lambda text, pattern, by: re.sub(pattern, by, text)
    return made


def _written_by_ansible(chosen: list[Site], folder: Path) -> list[str]:
    """Return the .env and the site file of each site as Ansible writes them, with a separator between the two."""
    for name in ("gitea/templates/environment.j2", "ops/templates/site.json.j2"):
        shutil.copy(PLAYBOOKS / "roles" / name, folder)
    (folder / "all.j2").write_text(
        "{% for each in sites %}{% set gitea_environment = each.env %}{% set ops_facts = each.facts %}"
        "{% include 'environment.j2' %}\x1e{% include 'site.json.j2' %}\x1d{% endfor %}"
    )
    play: dict[str, Any] = {"hosts": "all", "connection": "local", "gather_facts": False}
    play["tasks"] = [{"ansible.builtin.template": {"src": "all.j2", "dest": str(folder / "out"), "mode": "0600"}}]
    (folder / "play.yml").write_text(json.dumps([play]))
    values = [{"env": compose_environment(site, IMAGES), "facts": host_document(site)} for site in chosen]
    (folder / "sites.json").write_text(as_data({"sites": values, "gitea_compose_files": ["compose.yaml"]}))
    _ansible(folder, "play.yml", "--inventory", "site,", "--extra-vars", "@sites.json")
    return (folder / "out").read_text(encoding="utf-8").split("\x1d")[:-1]


def _ansible(folder: Path, *arguments: str) -> str:
    python = f"ansible_python_interpreter={sys.executable}"
    return _ran("ansible-playbook", *arguments, "--extra-vars", python, folder=folder, own=environment(PLAYBOOKS))


def _ran(*argv: str, folder: Path, own: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        argv, cwd=folder, env=environment_for(own), capture_output=True, text=True, check=False, errors="replace"
    )
    assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def test_the_settings_of_each_site_are_read_back_byte_for_byte(sites: list[Site], settings: list[str]) -> None:
    for site, written in zip(sites, settings, strict=True):
        found = read_settings(written)
        assert found.pop("COMPOSE_FILE") == "/opt/gitea-suite/compose/compose.yaml"
        assert found == compose_environment(site, IMAGES)


def test_ansible_writes_the_settings_and_the_site_file_of_a_sample_byte_for_byte(
    sites: list[Site], settings: list[str], tmp_path: Path, record_property: Record
) -> None:
    odd = [site for site in sites if set(site.gitea.title) & set("\\{$%'\"")]
    assert len(odd) > WRITTEN // 2
    chosen = [*odd[: WRITTEN // 2], *sites[: WRITTEN // 2]]
    for site, written in zip(chosen, _written_by_ansible(chosen, tmp_path), strict=True):
        env, facts = written.split("\x1e")
        assert env == settings[sites.index(site)].rstrip("\n") or env == settings[sites.index(site)]
        assert site_from(json.loads(facts)) == site
    record_property("site files that Ansible wrote", len(chosen))


def test_compose_takes_each_env_file_and_reads_each_value_byte_for_byte(
    sites: list[Site], settings: list[str], tmp_path: Path, record_property: Record
) -> None:
    names = compose_environment(sites[0], IMAGES)
    # A service that has each variable, beside the real ones.
    echo = {"image": "x", "environment": {name: f"${{{name}}}" for name in names}}
    (tmp_path / "echo.yaml").write_text(json.dumps({"services": {"echo": echo}}))
    files = ["--file", str(COMPOSE / "compose.yaml"), "--file", str(tmp_path / "echo.yaml")]
    assert sum(bool(site.gitea.settings) for site in sites) > len(sites) // 20

    def check(number: int) -> None:
        env_file, own = tmp_path / f"{number}.env", tmp_path / f"{number}.json"
        own.write_text(settings_file.compose_file(sites[number], "/run/s"), encoding="utf-8")
        lines = settings[number].split("\n")
        env_file.write_text("\n".join(line for line in lines if not line.startswith("COMPOSE_FILE=")), encoding="utf-8")
        given = ["--file", str(own), "--env-file", str(env_file)]
        argv = ["docker", "compose", *files, *given, "config", "--format", "json"]
        config = json.loads(_ran(*argv, folder=tmp_path))
        # `config` writes each $ twice, so that it can be read again.
        found = {name: value.replace("$$", "$") for name, value in config["services"]["echo"]["environment"].items()}
        assert found == compose_environment(sites[number], IMAGES)
        gitea = config["services"]["gitea"]["environment"]
        for (section, key), value in settings_file.chosen(sites[number]).items():
            text = gitea[variable(section, key, from_file=bool(secret_of(value)))]
            assert text == (
                f"/run/secrets/{secret_of(value)}" if secret_of(value) else app_ini.given(value).replace("$", "$$")
            )

    with ThreadPoolExecutor(2) as pool:
        assert len(list(pool.map(check, range(len(sites))))) == len(sites)
    record_property("site files that Compose read", len(sites))


def test_terraform_s_rules_accept_each_site(sites: list[Site], tmp_path: Path, record_property: Record) -> None:
    (tmp_path / "rules").mkdir()
    shutil.copy(ROOT / "infra/variables.tf", tmp_path / "rules")
    values = {str(number): terraform_variables(site, KEY) for number, site in enumerate(sites)}
    (tmp_path / "sites.json").write_text(json.dumps(values))
    given = "\n".join(f"  {name} = each.value.{name}" for name in values["0"])
    module = f'module "site" {{\n  source = "./rules"\n  for_each = jsondecode(file("sites.json"))\n{given}\n}}\n'
    (tmp_path / "main.tf").write_text(module)
    _ran(*command(), "init", "-input=false", folder=tmp_path)
    assert "No changes" in _ran(*command(), "plan", "-input=false", "-no-color", folder=tmp_path)
    record_property("site files that Terraform's rules accepted", len(sites))


def test_terraform_refuses_a_site_that_breaks_a_rule(sites: list[Site], tmp_path: Path) -> None:
    broken = terraform_variables(sites[0], KEY) | {"git_ssh_port": 22}
    shutil.copy(ROOT / "infra/variables.tf", tmp_path)
    (tmp_path / "terraform.tfvars.json").write_text(json.dumps(broken))
    with pytest.raises(AssertionError, match="git_ssh_port: give a port"):
        _ran(*command(), "plan", "-input=false", "-no-color", folder=tmp_path)


def test_terraform_plans_a_sample_on_a_mocked_provider(
    sites: list[Site], tmp_path: Path, record_property: Record
) -> None:
    infra = tmp_path / "infra"
    shutil.copytree(ROOT / "infra", infra)
    shutil.rmtree(infra / "secrets")
    (infra / "tests/without_values").rename(infra / "secrets")
    mocks = (infra / "tests/rules.tftest.hcl").read_text().partition("\nvariables {")[0]
    chosen = sites[:PLANNED]
    blocks = "".join(_plan(number, site) for number, site in enumerate(chosen))
    (infra / "tests/drawn.tftest.hcl").write_text(mocks + blocks)
    own = {"TF_DATA_DIR": str(tmp_path / "data"), "GOGC": "400"}
    if mirror := discover():
        (tmp_path / "terraform.rc").write_text(cli_configuration(mirror))
        own["TF_CLI_CONFIG_FILE"] = str(tmp_path / "terraform.rc")
    _ran(*command(), "init", "-backend=false", "-input=false", folder=infra, own=own)
    _ran(*command(), "validate", folder=infra, own=own)
    out = _ran(*command(), "test", "-no-color", "-filter=tests/drawn.tftest.hcl", folder=infra, own=own)
    assert f"{len(chosen)} passed, 0 failed" in out
    record_property("site files that Terraform planned", len(chosen))


def _plan(number: int, site: Site) -> str:
    values = "".join(f"    {name} = {json.dumps(value)}\n" for name, value in terraform_variables(site, KEY).items())
    return f'\nrun "site_{number}" {{\n  command = plan\n  variables {{\n{values}  }}\n}}\n'


def _variables(site: Site, archive: Path) -> dict[str, Any]:
    return ansible_variables(
        site,
        IMAGES,
        data_volume_id="vol-0123456789abcdef0",
        compose_source=COMPOSE,
        image_archive=archive,
        image_id=f"sha256:{'0' * 64}",
        image_name="gitea-suite/ops:0",
    )


def test_the_roles_accept_the_variables_of_a_sample(sites: list[Site], tmp_path: Path, record_property: Record) -> None:
    (tmp_path / "archive").touch()
    chosen = sites[:VALIDATED]
    hosts = {f"site{number}": _variables(site, tmp_path / "archive") for number, site in enumerate(chosen)}
    (tmp_path / "inventory.json").write_text(as_data({"all": {"hosts": hosts}}))
    validate = [
        {"ansible.builtin.import_role": {"name": role, "tasks_from": "validate"}}
        for role in ("base", "docker", "ops", "gitea")
    ]
    play = {"hosts": "all", "connection": "local", "gather_facts": False, "tasks": validate}
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    release = json.dumps({"docker_release": "Debian 13"})
    out = _ansible(tmp_path, "play.yml", "--inventory", "inventory.json", "--extra-vars", release)
    assert out.count("failed=0") == len(chosen)
    record_property("site files that the roles accepted", len(chosen))


def test_the_playbook_is_well_formed_with_the_variables_of_a_sample(
    sites: list[Site], tmp_path: Path, record_property: Record
) -> None:
    chosen = sites[:PLAYED]
    for site in chosen:
        (tmp_path / "variables.json").write_text(as_data(_variables(site, tmp_path / "archive")))
        extra = f"@{tmp_path}/variables.json"
        _ansible(PLAYBOOKS, "site.yml", "--syntax-check", "--inventory", "site,", "--extra-vars", extra)
    record_property("site files that Ansible's syntax check took", len(chosen))


_NGINX = """
mkdir -p /etc/letsencrypt/live
while read -r DOMAIN UPLOAD_LIMIT_MIB TRANSFER_LIMIT_MIB GRAFANA_PATH; do
    export DOMAIN UPLOAD_LIMIT_MIB TRANSFER_LIMIT_MIB GRAFANA_PATH
    rm -rf /etc/nginx/conf.d/* && /docker-entrypoint.d/20-envsubst-on-templates.sh >/dev/null
    for stage in plain tls; do
        [ $stage = plain ] || cp -r /drawn/live "/etc/letsencrypt/live/$DOMAIN"
        /docker-entrypoint.d/40-select-stage.sh | grep -q "stage $stage"
        nginx -t -q || { echo "$DOMAIN: nginx refuses stage $stage" >&2; exit 1; }
    done
    rm -rf "/etc/letsencrypt/live/$DOMAIN"
    echo ok
done </drawn/sites
"""


def _grafana(site: Site) -> str:
    return "public" if site.monitoring.grafana_path else "private"


def test_nginx_takes_each_site_in_both_stages(
    sites: list[Site], images: Mapping[str, str], run_id: str, tmp_path: Path, record_property: Record
) -> None:
    chain, key = self_signed_certificate("git.gitea.test")
    (tmp_path / "live").mkdir()
    (tmp_path / "live/fullchain.pem").write_bytes(chain)
    (tmp_path / "live/privkey.pem").write_bytes(key)
    longest = f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 30}.example"
    lines = [
        f"{site.domain} {site.gitea.upload_limit_mib} {site.gitea.transfer_limit_mib} {_grafana(site)}"
        for site in sites
    ]
    (tmp_path / "sites").write_text("\n".join([f"{longest} 512 0 public", *lines]) + "\n")
    mounts = [
        f"--volume={tmp_path}:/drawn:ro",
        f"--volume={COMPOSE}/nginx/templates:/etc/nginx/templates:ro",
        f"--volume={COMPOSE}/nginx/40-select-stage.sh:/docker-entrypoint.d/40-select-stage.sh:ro",
    ]
    label = [
        "--label",
        f"{RUN_LABEL}={run_id}",
        "--env",
        "NGINX_ENVSUBST_FILTER=^(DOMAIN|UPLOAD_LIMIT_MIB|TRANSFER_LIMIT_MIB|GRAFANA_PATH)$",
    ]
    argv = ["docker", "run", "--rm", *label, *mounts, "--entrypoint", "sh", images["NGINX_IMAGE"], "-euc", _NGINX]
    assert _ran(*argv, folder=tmp_path).count("ok\n") == len(sites) + 1
    record_property("site files that nginx took", len(sites))


def test_a_hostile_environment_and_a_locale_without_utf_8_do_not_reach_ansible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ops.world import ansible

    for name, value in {
        "LC_ALL": "C",
        "LANG": "C",
        "ANSIBLE_CHECK": "1",
        "PYTHONPATH": "/x",
        "TF_WORKSPACE": "dev",
    }.items():
        monkeypatch.setenv(name, value)
    play = {"hosts": "all", "gather_facts": False}
    task = {
        "name": "Write",
        "ansible.builtin.shell": {"cmd": f'env >{tmp_path}/env; printf %s "$TITLE" >{tmp_path}/title'},
    }
    play["tasks"] = [task | {"environment": {"TITLE": "{{ title }}"}}]
    (tmp_path / "one.yml").write_text(json.dumps([play]))
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    title = "{{ 7*7 }} Grüße 数据 \\"
    played = ansible.play(tmp_path, "one.yml", state=tmp_path / "s", host=host, variables={"title": title}, tell=print)
    assert played.changed == ("Write",)
    found = (tmp_path / "env").read_text()
    assert "TF_WORKSPACE" not in found
    assert "LC_ALL=C.UTF-8" in found
    assert (tmp_path / "title").read_text(encoding="utf-8") == title
    assert os.environ["LC_ALL"] == "C"
