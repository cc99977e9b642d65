"""``kedge status`` for monitoring: metrics that are there when they are needed, and exit statuses."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

from cli.conftest import World
from cli.shell import Shell

NUMBER = re.compile(r"^([a-z_]+)\{([^}]*)\} (-?\d+)$")


def metrics(text: str) -> dict[str, int]:
    """Each sample by its name and labels; everything else must be a comment."""
    found = {}
    for line in text.splitlines():
        match = NUMBER.match(line)
        assert match or line.startswith(("# HELP kedge_", "# TYPE kedge_")), line
        if match:
            found[f"{match[1]}{{{match[2]}}}"] = int(match[3])
    return found


def policy(shell: Shell, text: str) -> None:
    path = shell.config / "anchors" / "repo" / "anchor.toml"
    path.write_text(f"{path.read_text()}\n[freshness]\n{text}\n")


def test_metrics_say_how_far_trust_reaches(world: World) -> None:
    world.add_anchor()
    assert world.shell.run("refresh").code == 0
    done = world.shell.run("status", "--prometheus")
    assert (done.code, done.err) == (0, "")
    found = metrics(done.out)
    expires = int(world.repo.timestamp.expires.timestamp())
    assert found['kedge_trust_usable{anchor="repo"}'] == 1
    assert found['kedge_trust_stale{anchor="repo"}'] == 0
    assert found['kedge_trust_valid_until_seconds{anchor="repo"}'] == expires
    assert found['kedge_trust_next_by_seconds{anchor="repo"}'] == expires
    assert 0 <= found['kedge_trust_age_seconds{anchor="repo"}'] < 60
    assert found['kedge_role_version{anchor="repo",role="timestamp"}'] == world.repo.timestamp.version
    names = [line.split()[2] for line in done.out.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))


def test_past_the_red_line_the_metrics_are_still_there_and_the_exit_status_is_four(world: World) -> None:
    world.add_anchor()
    made = datetime.now(UTC) - timedelta(days=20)
    with world.repo.edit("timestamp") as timestamp:
        timestamp.unrecognized_fields["x-kedge-issued"] = made.strftime("%Y-%m-%dT%H:%M:%SZ")
    world.publish()
    policy(world.shell, "warn_after_s = 604800\nred_line_s = 1814400")
    refreshed = world.shell.run("refresh", "--json")
    assert (refreshed.code, json.loads(refreshed.out)["anchors"][0]["age_s"] // 86_400) == (0, 20)
    assert refreshed.err.startswith("kedge: warning: repo: trust is 20 days old: new trust must arrive by ")
    policy_file = world.shell.config / "anchors" / "repo" / "anchor.toml"
    policy_file.write_text(policy_file.read_text().replace("1814400", "1209600"))
    done = world.shell.run("status", "--prometheus")
    assert done.code == 4
    assert metrics(done.out)['kedge_trust_usable{anchor="repo"}'] == 0
    assert metrics(done.out)['kedge_trust_age_seconds{anchor="repo"}'] // 86_400 == 20
    assert done.err.startswith("kedge: timestamp.json: timestamp version ")
    assert "the red line of anchor repo is 14 days" in done.err
    for command in (("keys", "show", "registry.example"), ("status", "--json")):
        refused = world.shell.run(*command)
        assert (refused.code, refused.out) == (4, "")


def test_metrics_say_where_nothing_is_stored(world: World) -> None:
    world.add_anchor()
    done = world.shell.run("status", "--prometheus")
    assert done.code == 1
    assert metrics(done.out) == {'kedge_trust_usable{anchor="repo"}': 0}
    both = world.shell.run("status", "--prometheus", "--json")
    assert (both.code, both.out) == (2, "")


def test_an_anchor_is_added_with_its_lines(world: World) -> None:
    world.add_anchor("lines", "--max-staleness", "36h", "--warn-after", "7d", "--red-line", "14d", "--keep-history")
    text = (world.shell.config / "anchors" / "lines" / "anchor.toml").read_text()
    for line in ("keep_history = true", "max_staleness_s = 129600", "warn_after_s = 604800", "red_line_s = 1209600"):
        assert line in text
    shown = world.shell.run("anchor", "show", "lines")
    assert "no answer from trust that is 14 days old" in shown.out
    root, mirror = ("--root", world.folder.parent / "root.json"), ("--mirror", world.folder)
    for option, value in (("--red-line", "soon"), ("--warn-after", "7"), ("--max-staleness", "-1d")):
        done = world.shell.run("anchor", "add", "wrong", *root, *mirror, option, value)
        assert (done.code, done.out) == (2, "")
        assert "must be a span of time such as 7d, 36h or 90m" in done.err
