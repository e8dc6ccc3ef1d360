"""Each panel's query has data on the real Prometheus with the real exporters, and Grafana serves what it is provisioned with.

With IMAGE_SET=upstream Grafana is the real one; otherwise a stand-in reads the same files.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ground.container import RUN_LABEL
from ground.image_recipes import BASES
from ground.image_set import ImageSet, pinned
from ops import metrics
from ops.config import monitoring_files, settings_file, tool_variables
from ops.metrics import Sample
from tests.support import compose_stack, fakes, panels, png
from tests.support.compose_stack import COMPOSE, Answer, Stack

# Ranges of rates, as Grafana makes them of the scrape interval below.
RATE = "30s"
PREFIX = monitoring_files.GRAFANA_PATH.rstrip("/")
_WAIT_SECONDS = 150
# Beside the report page.
PICTURES = COMPOSE.parent / "reports/dashboards"


@dataclass(frozen=True)
class WatchedStack(Stack):
    """The stack with the watch."""

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of its Compose files; those that follow from the site file are beside the suite's own."""
        own = ("override.yaml", settings_file.FILE)
        compose = self.folder / "compose"
        return (
            str(compose / "compose.yaml"),
            str(compose / "monitoring.yaml"),
            *(str(self.folder / each) for each in own),
        )

    @property
    def password(self) -> str:
        """The password of Grafana's administrator."""
        return (self.folder / "secrets/grafana-password").read_text()


def _site() -> Any:
    watch = {"interval_seconds": 5, "grafana_path": True}
    # The mail server does not answer: a probe that fails is data, too.
    mail = {"sender": "gitea@gitea.test", "smtp_host": "email-smtp.eu-central-1.amazonaws.com"}
    return fakes.site(domain=compose_stack.DOMAIN, zone="gitea.test", monitoring=watch, mail=mail)


def _samples(now: float) -> list[Sample]:
    """A value for each metric of ops: what a site has after a backup, a drill, a verification, an update and a check."""
    values = {"timestamp_seconds": now - 300, "passed": 1.0, "check": 1.0, "held": 1.0}
    found = []
    for name, (_, labels) in metrics.METRICS.items():
        value = next((each for end, each in values.items() if name.endswith(end)), 60.0)
        found.append(Sample(name, value, dict.fromkeys(labels, "gitea")))
    return found


def _lay_out(run_id: str, folder: Path, images: Mapping[str, str]) -> WatchedStack:
    made = compose_stack.lay_out(run_id, "watched", folder, images)
    site = _site()
    stack = WatchedStack(made.run_id, made.project, made.folder, made.images)
    shutil.copytree(COMPOSE, folder / "compose", ignore=shutil.ignore_patterns("source", "rules", "__pycache__"))
    for path, text in monitoring_files.files(site, COMPOSE).items():
        (folder / "compose" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "compose" / path).write_text(text)
    for name, mode in {"prometheus": 0o777, "alertmanager": 0o777, "metrics": 0o755}.items():
        (folder / "data" / name).mkdir()
        (folder / "data" / name).chmod(mode)
    (folder / "data/metrics/records.prom").write_text(metrics.text(_samples(time.time())))
    for name in ("grafana-password", "monitoring-password"):
        compose_stack.write_secret(folder / "secrets" / name)
    for each in (folder / "secrets").iterdir():
        each.chmod(0o444)
    more = tool_variables.compose_environment(site, {})
    known = compose_stack.settings(folder, images)
    added = {name: value for name, value in more.items() if name not in known or name == "GRAFANA_PATH"}
    with (folder / ".env").open("a") as file:
        file.write("".join(f"{name}={value}\n" for name, value in added.items()))
    label = {"labels": f"{{{RUN_LABEL}: {run_id}}}"}
    services = dict.fromkeys(monitoring_files.SERVICES, label)
    override = compose_stack.override(run_id).replace(
        "networks:\n",
        "\n".join([*compose_stack.blocks(services), "networks:", *compose_stack.blocks({"monitoring": label}), ""]),
    )
    (folder / "override.yaml").write_text(override)
    return stack


@pytest.fixture
def stand_in(built: ImageSet) -> None:
    """Marks a test of the stand-in alone; conftest.py leaves it out on upstream's images."""
    assert built.name


@pytest.fixture(scope="module")
def stack(built: ImageSet, run_id: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedStack]:
    """The stack with the watch, with samples of every metric that ops writes."""
    images = {name: built.local(reference) for name, reference in pinned().items()}
    made = _lay_out(run_id, tmp_path_factory.mktemp("watched"), images)
    made.install_certificate()
    services = ("postgres", "gitea", "door", "nginx", "haproxy")
    try:
        made.compose("up", "--detach", "--wait", *services)
        _make_role(made)
        made.compose("up", "--detach", "--wait", *monitoring_files.SERVICES)
        yield made
    finally:
        print(made.compose("logs", "--tail", "30", "grafana", "prometheus", check=False))
        made.remove()


def _make_role(stack: WatchedStack) -> None:
    """Make the exporter's role, as `ops secrets apply` does, and the slot of `ops backup stream`."""
    password = (stack.folder / "secrets/monitoring-password").read_text()
    role = f"CREATE ROLE monitoring LOGIN IN ROLE pg_monitor PASSWORD '{password}'"
    slot = "SELECT pg_create_physical_replication_slot('ops', true)"
    for statement in (role, slot):
        psql = ["psql", "--username=gitea", "--dbname=gitea", "--quiet", "--command", statement]
        stack.compose("exec", "-T", "--user", "postgres", "postgres", *psql)


def _basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def _grafana(stack: WatchedStack, path: str, **more: Any) -> Answer:
    headers = {**_basic("admin", stack.password), **more.pop("headers", {})}
    return stack.ask(f"{PREFIX}{path}", headers=headers, **more)


def _proxied(stack: WatchedStack, query: panels.Query) -> list[Any]:
    """Return the series that a query has through Grafana, as its panel asks: now, or over the last minute."""
    now = int(time.time())
    times: dict[str, Any] = {"time": now} if query.instant else {"start": now - 60, "end": now, "step": 5}
    body = urllib.parse.urlencode({"query": query.at(RATE), **times}).encode()
    kind = "query" if query.instant else "query_range"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = _grafana(
        stack, f"/api/datasources/proxy/uid/prometheus/api/v1/{kind}", method="POST", body=body, headers=form
    )
    assert answer.status == 200, f"{query}: {answer.status} {answer.body[:300]!r}"
    series: list[Any] = json.loads(answer.body)["data"]["result"]
    return series


def test_every_panel_has_data(stack: WatchedStack) -> None:
    stack.ask("/")
    deadline = time.monotonic() + _WAIT_SECONDS
    # Gitea is read once a minute.
    missing = panels.queries()
    assert len(missing) > 80
    while missing := [query for query in missing if not _proxied(stack, query)]:
        assert time.monotonic() < deadline, "without data:\n" + "\n".join(map(str, missing))
        time.sleep(5)


def test_a_panel_s_number_is_that_of_its_source(stack: WatchedStack) -> None:
    texts = (stack.folder / "data/metrics/records.prom").read_text()
    query = next(each for each in panels.queries() if each.expression == "gitea_suite_drill_recovery_time_seconds")
    assert "gitea_suite_drill_recovery_time_seconds 60.0" in texts
    assert [float(each["value"][1]) for each in _proxied(stack, query)] == [60.0]


def test_the_dashboards_are_those_of_the_files_and_cannot_be_changed(stack: WatchedStack) -> None:
    found = {each["uid"]: each["title"] for each in json.loads(_grafana(stack, "/api/search?type=dash-db").body)}
    assert found == {each["uid"]: each["title"] for each in panels.boards().values()}
    for board in panels.boards().values():
        document = json.loads(_grafana(stack, f"/api/dashboards/uid/{board['uid']}").body)
        assert document["meta"]["provisioned"] is True
        assert len(document["dashboard"]["panels"]) == len(board["panels"])
    body = json.dumps({"dashboard": panels.boards()["glance"], "overwrite": True}).encode()
    assert (
        _grafana(
            stack, "/api/dashboards/db", method="POST", body=body, headers={"Content-Type": "application/json"}
        ).status
        == 400
    )
    assert _grafana(stack, "/api/dashboards/uid/unknown").status == 404


def test_who_is_not_signed_in_sees_nothing(stack: WatchedStack) -> None:
    health = stack.ask(f"{PREFIX}/api/health")
    assert (health.status, json.loads(health.body)["database"]) == (200, "ok")
    uid = panels.boards()["glance"]["uid"]
    for path in ("/api/search", f"/api/dashboards/uid/{uid}", "/api/datasources"):
        assert stack.ask(f"{PREFIX}{path}").status == 401, path
    assert stack.ask(f"{PREFIX}/api/search", headers=_basic("admin", "admin")).status == 401
    page = stack.ask(f"{PREFIX}/d/{uid}")
    assert page.status == 302
    assert page.all("Location")[0].startswith(f"{PREFIX}/login")


def test_a_session_of_the_form_opens_the_dashboards_and_is_for_grafana_alone(stack: WatchedStack) -> None:
    body = json.dumps({"user": "admin", "password": stack.password}).encode()
    headers = {"Content-Type": "application/json", "Origin": f"https://{compose_stack.DOMAIN}"}
    answer = stack.ask(f"{PREFIX}/login", method="POST", body=body, headers=headers)
    assert answer.status == 200, answer.body
    cookie = next(each for each in answer.all("Set-Cookie") if each.startswith("grafana_session="))
    assert all(each in cookie for each in ("Secure", "HttpOnly", f"Path={PREFIX}"))
    session = {"Cookie": f"i_like_gitea=x; {cookie.partition(';')[0]}"}
    assert stack.ask(f"{PREFIX}/api/search", headers=session).status == 200


@pytest.fixture
def real_grafana(built: ImageSet) -> None:
    """Marks a test of the real Grafana alone; conftest.py leaves it out with the stand-in, which has no pages."""
    assert built.name


@pytest.fixture
def browser(run_id: str) -> str:
    """An image with Debian's Chromium; the engine keeps its layers for the next run."""
    packages = "chromium chromium-driver fonts-dejavu-core python3"
    text = (
        f"FROM {BASES['DEBIAN_TRIXIE']}\nRUN apt-get update && apt-get install -y --no-install-recommends {packages}\n"
    )
    build = ["docker", "build", "--quiet", "--label", f"{RUN_LABEL}={run_id}", "-"]
    done = subprocess.run(build, input=text, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.usefixtures("real_grafana")
def test_a_browser_shows_every_panel(stack: WatchedStack, browser: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    PICTURES.chmod(0o777)
    uids = {board["uid"]: board for board in panels.boards().values()}
    script = Path(panels.__file__).with_name("browser.py")
    # Chromium keeps a cookie that is for HTTPS alone on localhost, too: the browser has Grafana's network.
    network = f"container:{stack.container('grafana')}"
    place = ["--rm", "--interactive", "--network", network, "--label", f"{RUN_LABEL}={stack.run_id}"]
    mounts = ["--volume", f"{script}:/browser.py:ro", "--volume", f"{PICTURES}:/pictures"]
    command = ["python3", "/browser.py", f"http://localhost:3000{PREFIX}/", "/pictures", *uids]
    run = ["docker", "run", *place, *mounts, browser, *command]
    done = subprocess.run(run, input=stack.password, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    for uid, text in json.loads(done.stdout).items():
        titles = {panel["title"] for panel in uids[uid]["panels"]}
        assert {title for title in titles if title not in text} == set(), uid
        assert "No data" not in text, uid
        assert (PICTURES / f"{uid}.png").read_bytes()[:8] == png.SIGNATURE


def test_without_grafana_its_path_says_so_and_gitea_s_pages_stay(stack: WatchedStack) -> None:
    stack.compose("stop", "grafana")
    try:
        away = stack.ask(f"{PREFIX}/")
        assert (away.status, away.all("Retry-After")) == (503, ["30"])
        assert b"Grafana does not answer" in away.body
        assert stack.ask("/api/healthz").status == 200
    finally:
        stack.compose("up", "--detach", "--wait", "--no-deps", "grafana")


def test_a_new_password_is_in_use_after_a_restart(stack: WatchedStack) -> None:
    file = stack.folder / "secrets/grafana-password"
    before = stack.password
    file.write_text("B" * 40)
    stack.compose("up", "--detach", "--wait", "--no-deps", "--force-recreate", "grafana")
    assert _grafana(stack, "/api/search").status == 200
    assert stack.ask(f"{PREFIX}/api/search", headers=_basic("admin", before)).status == 401


def _run(built: ImageSet, folder: Path) -> subprocess.CompletedProcess[str]:
    places = [
        f"{folder}/provisioning:/etc/grafana/provisioning:ro",
        f"{folder}/dashboards:/etc/gitea-suite/dashboards:ro",
    ]
    mounts = [part for each in places for part in ("--volume", each)]
    image = built.local(pinned()["GRAFANA_IMAGE"])
    run = ["docker", "run", "--rm", "--network", "none", "--env", "SCRAPE_INTERVAL=60s", *mounts, image]
    return subprocess.run(run, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(
    ("file", "old", "new", "reason"),
    [
        ("provisioning/datasources/prometheus.yaml", "apiVersion: 1", "apiVersion: 2", "apiVersion must be 1"),
        ("provisioning/datasources/prometheus.yaml", "uid: prometheus", "uid: another", "datasource prometheus was not found"),
        ("provisioning/datasources/prometheus.yaml", "${SCRAPE_INTERVAL}", "${NOT_THERE}", "timeInterval must be a duration"),
        ("provisioning/datasources/prometheus.yaml", "editable:", "edible:", "unknown key edible"),
        ("provisioning/dashboards/suite.yaml", "/etc/gitea-suite/dashboards", "/elsewhere", "options.path must be a folder"),
        ("provisioning/dashboards/suite.yaml", "providers:", "providers: [", "not YAML"),
        ("dashboards/host.json", '"uid": "gitea-suite-host"', '"uid": "gitea-suite-glance"', "is there twice"),
        ("dashboards/host.json", '"title": "Host"', '"title": ""', "title cannot be empty"),
        ("dashboards/host.json", "{", "", "not JSON"),
    ],
)  # fmt: skip
def test_the_stand_in_refuses_a_wrong_file(
    built: ImageSet, tmp_path: Path, file: str, old: str, new: str, reason: str
) -> None:
    for name in ("provisioning", "dashboards"):
        shutil.copytree(COMPOSE / "grafana" / name, tmp_path / name)
    for each in (tmp_path, *tmp_path.rglob("*")):
        each.chmod(0o755 if each.is_dir() else 0o644)
    path = tmp_path / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    done = _run(built, tmp_path)
    assert (done.returncode, reason in done.stderr) == (1, True), done.stderr
