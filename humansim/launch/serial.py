"""One trial after another, in this process."""

from functools import partial

from humansim.launch import Follow, Runner, attempt
from humansim.root import Root
from humansim.search import Search


def launch(search: Search, root: Root, runner: Runner, follow: Follow) -> None:
    """Runs all that the search asks for."""
    while (trial := search.ask()) is not None:
        held = partial(runner, bar=search.bar(trial))
        outcome = attempt(trial, root, held, partial(follow.epoch, trial))
        search.tell(outcome)
        follow.ended(outcome)
