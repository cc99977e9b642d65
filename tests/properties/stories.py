"""Random repositories with a history: what happens to them is honest, or a lie, and drawn by hypothesis.

A :class:`Story` is a list of chapters. In each, honest things happen and are published; then, in some, somebody lies
(who holds a stolen key, or only serves the files); then both clients run; then time passes. A chapter may take its lies
back at its end. Each deed is a function of the repository and of a random number generator, which hypothesis seeds.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner, Signature
from tuf.api.metadata import Metadata, MetaFile, TargetFile
from tuf.api.serialization import DeserializationError

from kedge.tuf import metadata
from properties.peer import LIMITS
from support.simulator import TOP_LEVEL, RepositorySimulator, Saved, new_signers

__all__ = ["LIES", "NOW", "Chapter", "Deed", "Scene", "Story", "stories"]

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that happens to a repository, and the seed of its details."""

    name: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """What happens between two runs of the clients."""

    honest: list[Deed]
    lies: list[Deed]
    undone: bool
    hours: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A repository's kind, and its history."""

    root: tuple[int, int]
    meta_hashes: bool
    consistent: bool
    chapters: list[Chapter]


class Scene:
    """The repository of a story while it is played. ``marks`` are the peculiarities that the written list speaks of."""

    def __init__(self, story: Story) -> None:
        self.repo = RepositorySimulator(now=NOW, root=story.root, meta_hashes=story.meta_hashes)
        self.marks: set[str] = set()
        self.paths: list[str] = []
        self.former = [self.repo.save()]
        if not story.consistent:
            with self.repo.edit("root") as root:
                root.consistent_snapshot = False
            self.repo.publish()

    def honest(self, chapter: Chapter) -> None:
        """Let the honest part of a chapter happen, and publish."""
        for deed in chapter.honest:
            HONEST[deed.name](self, Random(deed.seed))
        if chapter.honest:
            self.repo.publish()
        else:
            with self.repo.edit("timestamp"):  # nothing is new but the day
                pass

    def lie(self, chapter: Chapter) -> None:
        """Let its lies happen."""
        for deed in chapter.lies:
            mark = LIES[deed.name](self, Random(deed.seed))
            if mark:
                self.marks.add(mark)

    def undo(self, saved: Saved) -> None:
        """Take lies back, as a repository would: what was signed once is never given another meaning."""
        highest = self.repo._highest
        self.repo.restore(saved)
        for role, version in highest.items():
            if role != "root":
                self.repo._highest[role] = max(version, self.repo._highest.get(role, 0))

    def rotate(self, role: str, **options: Any) -> None:
        """Give a role fresh keys, and remember it where the specification has a rule for that."""
        self.repo.rotate(role, **options)
        if role in ("timestamp", "snapshot"):
            self.marks.add("online-keys")

    def asked(self, seed: int) -> list[str]:
        """The targets that the clients ask for in a run."""
        random = Random(seed)
        known = random.sample(self.paths, min(len(self.paths), 2))
        return known if random.random() < 0.8 else [*known, "nobody/lists/this"]

    def bins(self, role: str) -> bool:
        """Whether a role delegates to succinct hash bins, beside which no named role can stand."""
        delegations = self.repo.targets(role).delegations
        return delegations is not None and delegations.succinct_roles is not None

    def roles(self) -> list[str]:
        """The targets roles."""
        return [name for name in self.repo.payloads if name not in ("root", "timestamp", "snapshot")]


# What honest maintainers do


def publish_again(scene: Scene, random: Random) -> None:
    scene.repo.add_target("news.txt", random.randbytes(8))
    _know(scene, "news.txt")


def add_target(scene: Scene, random: Random) -> None:
    role = random.choice(scene.roles())
    path = random.choice([f"{role}/keys.json", f"{role}/a/b.txt", "shared/file.txt"])
    scene.repo.add_target(path, random.randbytes(16), role=role)
    _know(scene, path)


def delegate(scene: Scene, random: Random) -> None:
    parent = random.choice(scene.roles())
    if scene.bins(parent):
        return
    role = random.choice(["one", "two", "three/odd name", "four"])
    keys = random.randint(1, 2)
    scene.repo.delegate(
        role,
        paths=random.choice([["*/*"], [f"{role}/*", "shared/*"], ["shared/*"], ["*/*", "*/*/*"]]),
        keys=keys,
        threshold=random.randint(1, len(scene.repo.signers.get(role, [0] * keys))),
        terminating=random.random() < 0.3,
        parent=parent,
    )


def delegate_by_hash(scene: Scene, random: Random) -> None:
    if scene.repo.targets().delegations is None:
        prefixes = random.choice([["0", "1", "2", "3", "4", "5", "6", "7"], [f"{n:02x}" for n in range(256)], [""]])
        scene.repo.delegate("hashed", hash_prefixes=prefixes)
        if prefixes == [""]:
            scene.marks.add("empty-prefix")


def delegate_bins(scene: Scene, random: Random) -> None:
    if scene.repo.targets().delegations is None:
        scene.repo.delegate_bins(bit_length=random.randint(1, 3))
        path = f"binned/{random.randint(0, 9)}.txt"
        scene.repo.add_target(path, random.randbytes(4), role=scene.repo.bin_of(path))
        _know(scene, path)


def delegate_far(scene: Scene, random: Random) -> None:
    """Delegate along a chain: honest, and longer than the limit for some seeds."""
    parent = "targets"
    if scene.bins(parent):
        return
    for step in range(random.choice([2, LIMITS.delegations + 1])):
        role = f"far-{step}"
        scene.repo.delegate(role, paths=["far/*"], parent=parent)
        parent = role
    scene.repo.add_target("far/away.txt", b"far away", role=parent)
    _know(scene, "far/away.txt")
    scene.marks.add("many-delegations")


def rotate(scene: Scene, random: Random) -> None:
    keys, role = random.randint(1, 3), random.choice(TOP_LEVEL)
    scene.rotate(role, keys=keys, threshold=random.randint(1, keys))


def rotate_to_other_algorithm(scene: Scene, random: Random) -> None:
    role = random.choice(TOP_LEVEL)
    root = scene.repo.root
    for signer in scene.repo.signers[role]:
        root.revoke_key(signer.public_key.keyid, role)
    signer = random.choice([CryptoSigner.generate_ecdsa, CryptoSigner.generate_ed25519])()
    scene.repo.signers[role] = [signer]
    root.add_key(signer.public_key, role)
    root.roles[role].threshold = 1
    if role in ("timestamp", "snapshot"):
        scene.marks.add("online-keys")
    with scene.repo.edit("root"):
        pass
    if role != "root":
        with scene.repo.edit(role):
            pass


def recover_from_fast_forward(scene: Scene, random: Random) -> None:
    """Give both online roles new keys, and begin with their versions anew (TUF 1.0.34 §5.3.11)."""
    for role in ("timestamp", "snapshot"):
        scene.rotate(role, republish=False)
        scene.repo._highest[role] = random.choice([0, scene.repo._highest[role]])
    with scene.repo.edit("snapshot"):
        pass


def new_roots(scene: Scene, random: Random) -> None:
    for _ in range(random.randint(1, 3)):
        with scene.repo.edit("root"):
            pass


def odd_signatures(scene: Scene, random: Random) -> None:
    """Leave signatures beside the right ones that count nothing, as real repositories do."""
    scene.repo.publish()
    with scene.repo.tamper("metadata/timestamp.json") as document:
        document["signatures"] += [
            {"keyid": hashlib.sha256(random.randbytes(4)).hexdigest(), "sig": random.choice(["", "00", "ff" * 64])}
        ]


# What dishonest ones do: those who hold a role's keys


def expire(scene: Scene, random: Random) -> None:
    with scene.repo.edit(random.choice(list(scene.repo.payloads))) as payload:
        payload.expires = scene.repo.now - timedelta(hours=random.choice([0, 1, 50]))


def lower_version(scene: Scene, random: Random) -> str:
    with scene.repo.edit(random.choice(["timestamp", "snapshot", "targets"])) as payload:
        payload.version = max(1, payload.version - random.choice([1, 2, 3]))
    return "same-version"


def jump_version(scene: Scene, random: Random) -> None:
    with scene.repo.edit(random.choice(["timestamp", "snapshot", *scene.roles()])) as payload:
        payload.version += random.choice([1, 1000])


def misplace_root(scene: Scene, random: Random) -> None:
    """Serve a root under another version than it states."""
    version = scene.repo.root.version
    with scene.repo.edit("root") as root:
        root.version = version + random.choice([0, 2])
    data = scene.repo.files.pop(scene.repo.path_of("root"))
    scene.repo.files[f"metadata/{version + 1}.root.json"] = data


def sign_with_stranger(scene: Scene, random: Random) -> None:
    role = random.choice(list(scene.repo.payloads))
    with scene.repo.edit(role):
        pass
    scene.repo.sign(role, signers=new_signers())


def sign_with_too_few(scene: Scene, random: Random) -> None:
    role = random.choice(["timestamp", "snapshot", "targets"])
    scene.rotate(role, keys=3, threshold=random.choice([2, 3]), republish=False)
    signers = scene.repo.signers[role]
    with scene.repo.edit(role):
        scene.repo.signers[role] = signers[:1]
    scene.repo.signers[role] = signers


def sign_root_with_half(scene: Scene, random: Random) -> None:
    """Rotate the root's keys, and let only the old or only the new ones sign."""
    old = scene.repo.signers["root"]
    scene.rotate("root")
    scene.repo.sign("root", signers=random.choice([old, scene.repo.signers["root"]]))


def replace_online_key_alone(scene: Scene, random: Random) -> None:
    """Give a role a new key in the root, and leave it as the old key signed it."""
    scene.rotate(random.choice(["timestamp", "snapshot", "targets"]), republish=False)


def list_one_key_twice(scene: Scene, random: Random) -> str:
    """Reach a threshold of two with one key under two keyids."""
    role = random.choice(["timestamp", "snapshot"])
    repo = scene.repo
    scene.rotate(role, republish=False)
    key = repo.signers[role][0].public_key
    alias = copy.deepcopy(key)
    alias.keyid = hashlib.sha256(random.randbytes(4)).hexdigest()
    with repo.edit("root") as root:
        root.keys[alias.keyid] = alias
        root.roles[role].keyids.append(alias.keyid)
        root.roles[role].threshold = 2
    repo.signers[role] = [*repo.signers[role], _Alias(repo.signers[role][0], alias)]
    with repo.edit(role):
        pass
    return "one-key-twice"


def forget_a_role(scene: Scene, random: Random) -> None:
    with scene.repo.edit("snapshot") as snapshot:
        if snapshot.meta:
            del snapshot.meta[random.choice(sorted(snapshot.meta))]


def never_list_a_role(scene: Scene, random: Random) -> None:
    """Delegate to a role that the snapshot has never listed."""
    if scene.bins("targets"):
        return
    role = f"unlisted-{random.randint(0, 999)}"
    scene.repo.delegate(role, paths=["unlisted/*"], terminating=True)
    scene.repo.add_target("unlisted/file.txt", b"unlisted", role=role)
    _know(scene, "unlisted/file.txt")
    scene.repo.publish()
    with scene.repo.edit("snapshot") as snapshot:
        del snapshot.meta[f"{role}.json"]


def lower_a_role_in_snapshot(scene: Scene, random: Random) -> None:
    with scene.repo.edit("snapshot") as snapshot:
        if not snapshot.meta:
            return
        meta = snapshot.meta[random.choice(sorted(snapshot.meta))]
        meta.version = max(1, meta.version - random.choice([1, 2]))


def lower_snapshot_in_timestamp(scene: Scene, random: Random) -> str:
    with scene.repo.edit("timestamp") as timestamp:
        timestamp.snapshot_meta.version = max(1, timestamp.snapshot_meta.version - random.choice([1, 2]))
    return "same-version"


def name_wrong_content(scene: Scene, random: Random) -> str:
    with scene.repo.edit("timestamp") as timestamp:
        meta = timestamp.snapshot_meta
        wrong = {"sha256": hashlib.sha256(random.randbytes(4)).hexdigest()}
        timestamp.snapshot_meta = MetaFile(meta.version, meta.length, wrong)
    return "same-version"


def equivocate_snapshot(scene: Scene, random: Random) -> str:
    """Sign a second snapshot of the same version, and a timestamp that names it by its digest."""
    repo = scene.repo
    repo.snapshot.unrecognized_fields["other"] = random.randint(0, 9)
    data = repo.sign("snapshot")
    with repo.edit("timestamp") as timestamp:
        timestamp.snapshot_meta = MetaFile(
            repo.snapshot.version, len(data), {"sha256": hashlib.sha256(data).hexdigest()}
        )
    return "same-version"


def name_weak_digest(scene: Scene, random: Random) -> str:
    data = random.randbytes(16)
    repo = scene.repo
    repo.add_target("weak.txt", data)
    weak = hashlib.md5(data, usedforsecurity=False).hexdigest()
    repo.targets().targets["weak.txt"] = TargetFile(len(data), {"md5": weak}, "weak.txt")
    repo.files[f"targets/{weak}.weak.txt"] = repo.files["targets/weak.txt"] = data
    repo.publish()
    scene.paths[:] = ["weak.txt"]
    return "weak-digest"


def lead_out_of_the_base(scene: Scene, random: Random) -> str:
    path = random.choice(["../outside.txt", "a/../../outside.txt", "a//b.txt", "./c.txt"])
    scene.repo.add_target(path, random.randbytes(16))
    scene.repo.publish()
    scene.repo.files.setdefault(f"targets/{path}", scene.repo.files[_served(scene, path)])
    scene.paths[:] = [path]
    return "path"


def list_unknown_key(scene: Scene, random: Random) -> str:
    """List a key of a type that nobody knows yet, in root or in a delegation, for a role that needs it not."""
    kind = metadata._unknown_key()
    keyid = hashlib.sha256(random.randbytes(4)).hexdigest()
    key = kind.from_dict(keyid, {"keytype": "slh-dsa", "scheme": "slh-dsa-sha2-128s", "keyval": {"public": "ab" * 32}})
    delegations = scene.repo.targets().delegations
    if delegations is not None and random.random() < 0.5:
        with scene.repo.edit("targets"):
            delegations.keys[keyid] = key
            if delegations.roles:
                random.choice(list(delegations.roles.values())).keyids.append(keyid)
    else:
        with scene.repo.edit("root") as root:
            root.keys[keyid] = key
            root.roles[random.choice(TOP_LEVEL)].keyids.append(keyid)
    return "unknown-key"


def expire_within_a_second(scene: Scene, random: Random) -> str:
    """Sign a timestamp whose expiry has a fraction of a second, as tough does."""
    scene.repo._bump("timestamp")
    signed = scene.repo.timestamp.to_dict()
    signed["expires"] = signed["expires"].replace("Z", f".{random.randint(0, 999_999_999):09}Z")
    scene.repo.sign_raw("timestamp", signed)
    scene.repo._signed["timestamp"] = scene.repo.files["metadata/timestamp.json"]
    scene.repo._highest["timestamp"] = scene.repo.timestamp.version
    return "fraction-of-a-second"


def grow(scene: Scene, random: Random) -> None:
    """Sign more than is read."""
    role = random.choice(["timestamp", "snapshot", "targets"])
    scene.repo.meta_hashes = False
    with scene.repo.edit(role) as payload:
        payload.unrecognized_fields["filler"] = "x" * 70_000


def many_roots(scene: Scene, random: Random) -> str:
    for _ in range(LIMITS.root_rotations + random.randint(1, 2)):
        with scene.repo.edit("root"):
            pass
    return "many-roots"


# What those can do who only serve the files


def serve_garbage(scene: Scene, random: Random) -> None:
    garbage = [
        b"",
        b"{",
        b"<html>sign in here</html>",
        b"[]",
        b"{}",
        b'{"signatures": [], "signed": {}}',
        b"\xff\xfe",
        b"null",
    ]
    scene.repo.files[_some_file(scene, random)] = random.choice(garbage)


def serve_twice_the_same_key(scene: Scene, random: Random) -> str:
    """Put a second ``signed`` or ``signatures`` before the right one: a parser that takes the last sees no lie."""
    path = random.choice(["metadata/timestamp.json", _some_file(scene, random)])
    junk = random.choice([b'{"signed":{"version":999},', b'{"signatures":[],'])
    scene.repo.files[path] = junk + scene.repo.files.get(path, b"").lstrip()[1:]
    return "duplicate-json-keys"


def serve_nothing(scene: Scene, random: Random) -> None:
    scene.repo.files.pop(_some_file(scene, random), None)


def change_after_signing(scene: Scene, random: Random) -> None:
    path = _some_file(scene, random)
    if not _is_signed(scene.repo.files.get(path, b"")):
        return
    with scene.repo.tamper(path) as document:
        document["signed"]["version"] += random.choice([0, 1])
        document["signed"][random.choice(["x", "expires"])] = "2030-01-01T00:00:00Z"


def change_layout(scene: Scene, random: Random) -> None:
    """Other bytes, the same meaning: refused only where a digest is named."""
    path = _some_file(scene, random)
    scene.repo.files[path] = scene.repo.files.get(path, b"") + b"\n" * random.randint(1, 3)


def serve_older_file(scene: Scene, random: Random) -> None:
    """Serve a role's older bytes where its newest are asked for."""
    older = random.choice(scene.former)
    role = random.choice(["timestamp", "timestamp", "snapshot", "targets"])
    if role in older.signed:
        scene.repo.files[scene.repo.path_of(role)] = older.signed[role]


def roll_everything_back(scene: Scene, random: Random) -> None:
    older = random.choice(scene.former)
    roots = {path: data for path, data in scene.repo.files.items() if path.endswith(".root.json")}
    scene.repo.files = {**older.files, **random.choice([roots, {}])}


def change_target(scene: Scene, random: Random) -> None:
    paths = sorted(path for path in scene.repo.files if path.startswith("targets/"))
    for path in paths:
        data = scene.repo.files[path]
        scene.repo.files[path] = random.choice([data + b"!", data[:-1], b"?" * len(data)])


def lose_target(scene: Scene, random: Random) -> None:
    for path in [path for path in scene.repo.files if path.startswith("targets/") and random.random() < 0.7]:
        del scene.repo.files[path]


def _is_signed(data: bytes) -> bool:
    try:
        Metadata.from_bytes(data)
    except DeserializationError:
        return False
    return True


class _Alias(CryptoSigner):
    """Signs with another signer's key, under another keyid."""

    def __init__(self, signer: Any, public_key: Any) -> None:
        self._signer, self._public_key = signer, public_key

    @property
    def public_key(self) -> Any:
        return self._public_key

    def __deepcopy__(self, memo: dict[int, Any]) -> _Alias:
        return self

    def sign(self, payload: bytes) -> Signature:
        return Signature(self._public_key.keyid, self._signer.sign(payload).signature)


def _know(scene: Scene, path: str) -> None:
    if path not in scene.paths:
        scene.paths.append(path)


def _served(scene: Scene, path: str) -> str:
    target = scene.repo.targets().targets[path]
    folder, _, name = path.rpartition("/")
    name = f"{target.hashes['sha256']}.{name}" if scene.repo.root.consistent_snapshot else name
    return "/".join(part for part in ("targets", folder, name) if part)


def _some_file(scene: Scene, random: Random) -> str:
    """A metadata file that the clients will ask for."""
    root = f"metadata/{scene.repo.root.version}.root.json"
    paths = [scene.repo.path_of(role) for role in scene.repo.payloads if role != "root"]
    present = sorted(path for path in {*paths, root} if path in scene.repo.files)
    return random.choice(["metadata/timestamp.json", *present]) if present else root


_Honest = Callable[[Scene, Random], None]
_Lie = Callable[[Scene, Random], "str | None"]

HONEST: dict[str, _Honest] = {
    deed.__name__: deed
    for deed in (
        publish_again,
        add_target,
        delegate,
        delegate_by_hash,
        delegate_bins,
        delegate_far,
        rotate,
        rotate_to_other_algorithm,
        recover_from_fast_forward,
        new_roots,
        odd_signatures,
    )
}

LIES: dict[str, _Lie] = {
    deed.__name__: deed
    for deed in (
        expire,
        lower_version,
        jump_version,
        misplace_root,
        sign_with_stranger,
        sign_with_too_few,
        sign_root_with_half,
        replace_online_key_alone,
        list_one_key_twice,
        forget_a_role,
        never_list_a_role,
        lower_a_role_in_snapshot,
        lower_snapshot_in_timestamp,
        name_wrong_content,
        equivocate_snapshot,
        name_weak_digest,
        lead_out_of_the_base,
        list_unknown_key,
        expire_within_a_second,
        grow,
        many_roots,
        serve_garbage,
        serve_twice_the_same_key,
        serve_nothing,
        change_after_signing,
        change_layout,
        serve_older_file,
        roll_everything_back,
        change_target,
        lose_target,
    )
}


def _deeds(names: dict[str, Any], most: int) -> st.SearchStrategy[list[Deed]]:
    return st.lists(st.builds(Deed, st.sampled_from(sorted(names)), st.integers(0, 2**16)), max_size=most)


def stories() -> st.SearchStrategy[Story]:
    """Stories of one to five chapters; about half of the chapters hold a lie."""
    chapter = st.builds(
        Chapter,
        honest=_deeds(HONEST, 3),
        lies=st.one_of(st.just([]), _deeds(LIES, 2)),
        undone=st.booleans(),
        hours=st.sampled_from([0, 0, 1, 30, 200]),
    )
    return st.builds(
        Story,
        root=st.sampled_from([(1, 1), (2, 3), (1, 2)]),
        meta_hashes=st.booleans(),
        consistent=st.sampled_from([True, True, True, False]),
        chapters=st.lists(chapter, min_size=1, max_size=5),
    )
