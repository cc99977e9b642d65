"""``kedge refresh``: bring trust up to date."""

from __future__ import annotations

from kedge._cli.options import (
    AnchorName,
    AsOf,
    Json,
    RequireRefresh,
    chosen_anchors,
    for_each,
    open_client,
    read_as_of,
    takes_mirrors,
)
from kedge._cli.output import Screen, answer, answer_json, say_warnings, trust_document, trust_lines
from kedge.client import Anchor
from kedge.documents import format_time
from kedge.errors import FetchError, StoreError
from kedge.tuf import Trust


@takes_mirrors
def refresh(
    anchor: AnchorName = None, as_of: AsOf = None, require_refresh: RequireRefresh = False, json: Json = False
) -> None:
    """Fetch what is new.

    What passes verification is kept. Without --anchor every anchor that was added is refreshed, or the one that ships
    if none was. Exit status 1: the repository could not be reached, or what is new could not be stored.
    """
    moment = read_as_of(as_of)

    def refreshed(each: Anchor) -> Trust:
        with open_client(each, as_of=moment, require_refresh=require_refresh) as client:
            trust = client.refresh()
        if not trust.refreshed:
            why = next(text for text in trust.warnings if text.startswith("not refreshed: "))
            until = format_time(trust.valid_until)
            raise FetchError(f"{each.name}: {why}", hint=f"what is stored answers until {until}: see kedge status")
        if not trust.stored:
            why = next(text for text in trust.warnings if "could not be stored" in text)
            raise StoreError(f"{each.name}: {why}", hint="free space or fix the permissions, or set KEDGE_STATE_DIR")
        return trust

    answers = for_each(chosen_anchors(anchor), refreshed)
    say_warnings(answers)
    if json:
        answer_json(trust_document(answers))
    else:
        screen = Screen.of_stdout()
        answer(line for trust in answers for line in trust_lines(screen, trust))
