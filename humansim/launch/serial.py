"""One trial after another, in this process."""

from humansim.launch import Follow, Runner, attempt
from humansim.root import Root
from humansim.search import Search


def launch(search: Search, root: Root, runner: Runner, follow: Follow) -> None:
    """Runs all that the search asks for."""
    while (trial := search.ask()) is not None:
        outcome = attempt(trial, root, runner, lambda row, trial=trial: follow.epoch(trial, row))  # type: ignore[misc]
        search.tell(outcome)
        follow.ended(outcome)
