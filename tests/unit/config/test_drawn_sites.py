"""What `ops site` accepts, Terraform's rules accept, and the host reads the same site. Hypothesis draws the site files."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings

from ops.config.load import site_from
from ops.config.tool_variables import compose_environment, host_document, ops_environment, terraform_variables
from ops.world.ansible_variables import as_data
from tests.support.drawn_sites import accepted, documents, terraform_problems

# The integration tests draw 200, and 5,000 at night.
_DRAWN = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@_DRAWN
@given(documents())
def test_an_accepted_site_file_keeps_terraform_s_rules_and_is_the_same_site_on_the_host(
    document: dict[str, Any],
) -> None:
    site = accepted(document)
    assume(site is not None)
    assert site is not None
    assert terraform_problems(terraform_variables(site, "ssh-ed25519 A")) == []
    assert site_from(json.loads(json.dumps(host_document(site)))) == site
    values = {**compose_environment(site, {}), **ops_environment(site)}
    # No line break of any reader: of Python's splitlines (pins.into_environment), of sed and of the Docker engine.
    assert [name for name, value in values.items() if len(f"{value}x".splitlines()) != 1 or "\0" in value] == []
    assert all(values.values())


@settings(_DRAWN, max_examples=10)
@given(documents())
def test_ansible_s_variables_are_read_back_and_marked_as_data(document: dict[str, Any]) -> None:
    tag, _, rest = as_data(document).partition(" ")
    assert tag == "!unsafe"
    assert yaml.safe_load(rest) == document


@pytest.mark.parametrize("text", ["12:30", "&", "=", "<<", "~", "123", "true", "\\", '"', "\U0001f600\u2028\x7f\ufffe"])
def test_a_text_in_ansible_s_variables_has_no_tag_of_its_own_with_which_ansible_guesses_its_type(text: str) -> None:
    written = as_data({"a": text, "b": [text, 1, True, None]})
    assert written.count("!unsafe") == 1
    assert yaml.safe_load(written.removeprefix("!unsafe ")) == {"a": text, "b": [text, 1, True, None]}
