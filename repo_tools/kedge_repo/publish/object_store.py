"""An object store as a destination: S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage.

Nothing is locked: files that never change are put only where nothing is, and the timestamp only where the one that was
read still is. A store that does not keep to such conditions would let the second of two publishers undo the first, so
each publication asks the store to break them before it writes anything, and goes no further with a store that does. It
asks with the timestamp that is there, and its own bytes; only an empty store is asked with a probe.

Credentials come from the environment (``AWS_ACCESS_KEY_ID`` …, ``GOOGLE_SERVICE_ACCOUNT`` …, ``AZURE_STORAGE_…``) or
from the machine itself, never from the policy. The extra ``objectstore`` brings the library.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from kedge.errors import InputError, StoreError
from kedge_repo.publish.destination import TIMESTAMP_PATH, Held, cache_control, content_type
from kedge_repo.workspace import load_extra

SCHEMES = ("s3", "gs", "az")
RETRY_TIMEOUT = timedelta(seconds=30)
_MAX_RETRIES = 4
_MACHINE_IDENTITY = ("//169.254.", "//metadata.google.internal")  # where machines in a cloud are told who they are
_CREATES_OVER = "puts a file where one is already, although told not to"
_SWAPS_BLINDLY = "does not compare before it swaps"


class ObjectStoreDestination:
    """The bucket or container that ``url`` names (``s3://bucket/prefix``, ``gs://…``, ``az://…``).

    ``options`` are settings of the store that are no secret: ``endpoint``, ``region``. ``environment`` is where the
    credentials stand.
    """

    def __init__(
        self, url: str, *, options: Mapping[str, str] | None = None, retry_timeout: timedelta = RETRY_TIMEOUT
    ) -> None:
        """Open the store; nothing is asked of it yet. ``retry_timeout`` is for how long a failed request is repeated.

        Raises:
            InputError: the library is not installed, or the URL or an option is none that it knows.
        """
        self._url = url.rstrip("/")
        self._library = load_extra("obstore", extra="objectstore", what=url)
        self._errors = self._library.exceptions
        self._store = self._open(dict(options or {}), retry_timeout)

    @property
    def name(self) -> str:
        """The URL, which holds no secret."""
        return self._url

    def place(self, path: str) -> str:
        """The URL of a file."""
        return f"{self._url}/{path}"

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Let other publishers be; make sure that the store keeps to conditions.

        Raises:
            InputError: it does not.
            StoreError: it cannot be reached or written.
        """
        present = self.read(TIMESTAMP_PATH)
        if present is None:
            self._try_conditions_on_a_probe()
        elif self.create(TIMESTAMP_PATH, present.data):
            raise self._unfit(_CREATES_OVER)
        elif self.replace(TIMESTAMP_PATH, present.data, Held(data=b"", tag='"0"')):
            raise self._unfit(_SWAPS_BLINDLY)
        yield

    def _try_conditions_on_a_probe(self) -> None:
        probe = f"metadata/.kedge-{secrets.token_hex(8)}"
        try:
            if not self.create(probe, b"1") or self.create(probe, b"2"):
                raise self._unfit(_CREATES_OVER)
            held = self.read(probe)
            if held is None or not self.replace(probe, b"3", held) or self.replace(probe, b"4", held):
                raise self._unfit(_SWAPS_BLINDLY)
        finally:
            with suppress(StoreError):  # who may write need not be allowed to remove
                self.remove([probe])

    def read(self, path: str) -> Held | None:
        """An object.

        Raises:
            StoreError: the store cannot be reached or refuses.
        """
        with self._blame(path):
            try:
                found = self._library.get(self._store, path)
                return Held(data=bytes(found.bytes()), tag=found.meta["e_tag"] or "")
            except (FileNotFoundError, self._errors.NotFoundError):
                return None

    def create(self, path: str, data: bytes) -> bool:
        """Put an object where none is.

        Raises:
            StoreError: the store cannot be reached or refuses.
        """
        return self._put(path, data, "create")

    def replace(self, path: str, data: bytes, former: Held | None) -> bool:
        """Replace an object that is still ``former``.

        Raises:
            StoreError: the store cannot be reached or refuses.
        """
        return self._put(path, data, "create" if former is None else {"e_tag": former.tag})

    def paths(self, folder: str) -> Iterator[str]:
        """The objects whose names begin with ``folder/``.

        Raises:
            StoreError: the store cannot be reached or refuses.
        """
        with self._blame(folder):
            for batch in self._library.list(self._store, f"{folder}/"):
                yield from (item["path"] for item in batch)

    def remove(self, paths: Iterable[str]) -> None:
        """Remove objects.

        Raises:
            StoreError: the store cannot be reached or refuses.
        """
        wanted = list(paths)
        with self._blame(wanted[0] if wanted else ""):
            self._library.delete(self._store, wanted)

    def _open(self, options: dict[str, str], retry_timeout: timedelta) -> Any:
        plain = options.get("endpoint", "").startswith("http://")
        store = load_extra("obstore.store", extra="objectstore", what=self._url)
        try:
            return store.from_url(
                self._url,
                config=options,
                client_options={"allow_http": plain, "timeout": timedelta(seconds=60), "connect_timeout": "10s"},
                retry_config={"max_retries": _MAX_RETRIES, "retry_timeout": retry_timeout},
            )
        except (self._errors.BaseError, ValueError) as error:
            raise InputError(f"{self._url}: is no destination: {_first_line(error)}") from error

    def _put(self, path: str, data: bytes, mode: str | dict[str, str]) -> bool:
        attributes = {"Content-Type": content_type(path), "Cache-Control": cache_control(path)}
        with self._blame(path):
            try:
                self._library.put(self._store, path, data, attributes=attributes, mode=mode, use_multipart=False)
            except (self._errors.AlreadyExistsError, self._errors.PreconditionError):
                return False
            except (FileNotFoundError, self._errors.NotFoundError) as error:
                if mode != "create":
                    return False  # what was to be replaced is gone
                raise self._no_bucket() from error
            return True

    @contextmanager
    def _blame(self, path: str) -> Iterator[None]:
        try:
            yield
        except (PermissionError, self._errors.PermissionDeniedError, self._errors.UnauthenticatedError) as error:
            raise StoreError(
                f"{self.place(path)}: the store refuses access: {_first_line(error)}",
                hint="look at the credentials in the environment, and at what they may do with this bucket",
            ) from error
        except (FileNotFoundError, self._errors.NotFoundError) as error:
            raise self._no_bucket() from error
        except self._errors.BaseError as error:
            if any(host in str(error) for host in _MACHINE_IDENTITY):
                raise StoreError(
                    f"{self._url}: there are no credentials, neither in the environment nor of this machine's own",
                    hint="set those of the store: docs/how-to/object-stores.md names them",
                ) from error
            raise StoreError(f"{self.place(path)}: {_first_line(error)}", hint="try again") from error

    def _no_bucket(self) -> StoreError:
        return StoreError(
            f"{self._url}: there is no such bucket", hint="make it, or mend the destination in kedge-repo.toml"
        )

    def _unfit(self, problem: str) -> InputError:
        return InputError(
            f"{self._url}: the store {problem}",
            hint="without conditional writes two publishers undo each other: use a store that has them, or a folder",
        )


def _first_line(error: BaseException) -> str:
    """What the library says, in one line: without what it adds for its authors, and without queries, which may sign."""
    text = str(error).partition("\n\nDebug source")[0].partition(": <?xml")[0]
    text = re.sub(r"\?\S*", "", " ".join(text.split()))
    return f"{text[:300]}…" if len(text) > 300 else text
