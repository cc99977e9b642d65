"""``.npmrc``: which registry is asked, with which credentials, and that no credential is ever shown."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedge.documents import DocumentError
from kedge.registries.npm.config import DEFAULT_REGISTRY, Registries, parse_npmrc

SECRET = "s3cr3t-t0ken"


def registries(*files: str, registry: str | None = None, **environment: str) -> Registries:
    """The registries by the user's file alone, or by a project's file and then the user's."""
    tables = [parse_npmrc(text, is_users=number == len(files) - 1) for number, text in enumerate(files)]
    return Registries.of(tables, environment, registry=registry)


def test_without_settings_the_public_registry_is_asked() -> None:
    found = registries()
    assert found.default.url == DEFAULT_REGISTRY
    assert found.default.id == "registry.npmjs.org"
    assert found.default.authorization is None


def test_the_projects_file_goes_before_the_users_and_the_environment_before_both() -> None:
    project, user = "registry=https://project.example", "registry=https://user.example\n@s:registry=https://s.example"
    assert registries(project, user).default.url == "https://project.example/"
    assert registries("", user).default.url == "https://user.example/"
    assert registries(project, user).of_package("@s/a").url == "https://s.example/"
    assert registries(project, user).of_package("a").url == "https://project.example/"
    found = registries(project, npm_config_registry="https://env.example")
    assert found.default.url == "https://env.example/"
    named = registries(project, user, registry="https://named.example/npm")
    assert (named.default.url, named.of_package("@s/a").url) == ("https://named.example/npm/",) * 2


def test_lines_are_read_as_npm_reads_them() -> None:
    text = """
    ; a comment
    # another
    [section]
    registry = "https://quoted.example/npm"
    list[] = x
    @scope:registry='https://single.example'
    flag
    """
    assert parse_npmrc(text, is_users=True).values == {
        "registry": "https://quoted.example/npm",
        "@scope:registry": "https://single.example",
    }


@pytest.mark.parametrize(
    ("line", "header"),
    [
        (f"//r.example/npm/:_authToken={SECRET}", f"Bearer {SECRET}"),
        (f"//r.example/:_authToken={SECRET}", f"Bearer {SECRET}"),
        ("//r.example/npm/:_authToken=${TOKEN}", f"Bearer {SECRET}"),
        ("//r.example/npm/:_auth=dTpw", "Basic dTpw"),
        (
            f"//r.example/npm/:username=u\n//r.example/npm/:_password={base64.b64encode(b'p').decode()}",
            f"Basic {base64.b64encode(b'u:p').decode()}",
        ),
        (f"//r.example/npm/other/:_authToken={SECRET}", None),
        (f"//r.example:8443/npm/:_authToken={SECRET}", None),
        (f"//evil.example/npm/:_authToken={SECRET}", None),
        (f"_authToken={SECRET}", None),
    ],
)
def test_credentials_belong_to_their_host_and_path(line: str, header: str | None) -> None:
    found = registries(f"registry=https://r.example/npm\n{line}", TOKEN=SECRET)
    assert found.default.authorization == header


def test_a_scopes_registry_gets_its_own_credentials_only() -> None:
    text = f"registry=https://a.example\n@s:registry=https://b.example\n//a.example/:_authToken={SECRET}"
    found = registries(text)
    assert found.default.authorization == f"Bearer {SECRET}"
    assert found.of_package("@s/x").authorization is None


def test_a_variable_that_is_not_set_sends_nothing_and_is_said_without_its_value() -> None:
    found = registries("registry=https://r.example\n//r.example/:_authToken=${MISSING}")
    assert found.default.authorization is None
    assert "names the environment variable MISSING, which is not set" in found.warnings[0]


PROJECT = "registry=https://evil.example\n//evil.example/:_authToken=${NPM_TOKEN}"


def test_c17_a_projects_file_sends_no_secret_of_the_environment_to_a_host_of_its_own() -> None:
    found = registries(PROJECT, "//r.example/:_authToken=${NPM_TOKEN}", NPM_TOKEN=SECRET)
    assert (found.default.url, found.default.authorization) == ("https://evil.example/", None)
    assert "your own .npmrc does not name evil.example" in found.warnings[0]
    assert SECRET not in found.warnings[0]


@pytest.mark.parametrize(
    "user", ["registry=https://evil.example", "@s:registry=https://evil.example/npm", "//evil.example/:email=x"]
)
def test_c17_the_control_is_a_host_that_the_user_names(user: str) -> None:
    found = registries(PROJECT, user, NPM_TOKEN=SECRET)
    assert found.default.authorization == f"Bearer {SECRET}"


def test_c17_a_host_that_an_option_or_the_environment_names_is_the_users() -> None:
    named = registries(PROJECT, "", registry="https://evil.example", NPM_TOKEN=SECRET)
    assert named.default.authorization == f"Bearer {SECRET}"
    found = registries(PROJECT, "", npm_config_registry="https://evil.example", NPM_TOKEN=SECRET)
    assert found.default.authorization == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    "line",
    [
        "registry=https://evil.example/${NPM_TOKEN}",
        "registry=https://${NPM_TOKEN}.evil.example/",
        "@corp:registry=https://${NPM_TOKEN}@evil.example/",
        "@corp:registry=${NPM_TOKEN}",
        "@corp:registry=${NPM_TOKEN?}",
    ],
)
def test_c17_a_projects_registry_with_a_variable_is_refused_and_not_replaced_by_another(line: str) -> None:
    with pytest.raises(DocumentError, match="in a project's file: only your own") as caught:
        registries(line, "registry=https://evil.example", NPM_TOKEN=SECRET)
    assert SECRET not in str(caught.value)
    assert (
        registries("//evil.example/:email=${NPM_TOKEN}", NPM_TOKEN=SECRET).warnings == ()
    )  # the control: the user's own
    assert registries(line, "", registry="https://named.example").default.url == "https://named.example/"


def test_c17_a_scope_whose_registry_cannot_be_told_is_not_asked_elsewhere() -> None:
    with pytest.raises(DocumentError, match="MISSING, which is not set"):
        registries("@corp:registry=https://${MISSING}/")


@pytest.mark.parametrize("host", ["evil.example:8443", "r.example.evil.example", "r.example@evil.example"])
def test_c17_a_host_is_named_as_a_whole(host: str) -> None:
    project = f"registry=https://{host}\n//{host}/:_authToken=${{NPM_TOKEN}}"
    found = registries(project, "registry=https://r.example", NPM_TOKEN=SECRET)
    assert SECRET not in str(found.default.authorization)


def test_credentials_in_an_address_are_taken_out_of_it() -> None:
    found = registries(f"registry=https://user:{SECRET}@r.example:8443/npm")
    assert found.default.url == "https://r.example:8443/npm/"
    assert found.default.authorization == f"Basic {base64.b64encode(f'user:{SECRET}'.encode()).decode()}"


def test_no_form_of_a_registry_shows_a_credential() -> None:
    found = registries(
        f"registry=https://u:{SECRET}@r.example\n@s:registry=https://b.example\n//b.example/:_auth={SECRET}"
    )
    assert SECRET not in repr(found) + str(found) + repr(found.default) + found.default.address("a")


@pytest.mark.parametrize(
    "address",
    [
        *("", "x", "ftp://r.example", "https://", "file:///x", "https://r.example/?a=b", "https://r.example/#a"),
        *(
            "https://r.example:99999/",
            "https://r.example:x/",
            "https://r example/",
            "https://[::1",
            "https://r.example/../x",
        ),
        "https://r.example/a\nb",
    ],
)
def test_an_address_that_cannot_be_asked_is_refused(address: str) -> None:
    with pytest.raises(DocumentError, match="must be a URL"):
        registries(registry=address or "https:")


def test_a_refusal_shows_no_credential() -> None:
    for text in (
        f"registry=https://u:{SECRET}@r.example/?x",
        f"registry=https://r.example\n//r.example/:_authToken={SECRET} with a space",
        f"registry=https://r.example\n//r.example/:username=u\n//r.example/:_password={SECRET}!",
    ):
        with pytest.raises(DocumentError) as caught:
            registries(text)
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "path"), [("lodash", "lodash"), ("@scope/name", "@scope%2fname"), ("a?b#c%d", "a%3Fb%23c%25d")]
)
def test_a_packages_name_is_one_segment_of_the_address(name: str, path: str) -> None:
    assert registries(registry="https://r.example/npm/").default.address(name) == f"https://r.example/npm/{path}"


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        found = registries(text, f"registry={text}")
    except DocumentError as error:
        assert "\n" not in str(error)  # noqa: PT017 either way is right, if it is one line
    else:
        assert found.default.url.startswith(("https://", "http://"))
