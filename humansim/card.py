"""What people should know of a metric, as a page of Markdown: the model card of an export."""

from humansim.results import Result


def written(result: Result) -> str:
    return str(result)
