"""Figure 5.2: maps of the birds, a panel for each model, images coloured by family."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.figures.look import MARKERS, MUTED, PALETTE, Picture, key, sheet
from analysis.figures.subjects import pretty
from humansim import maps
from humansim.errors import BadInput
from humansim.scores import bootstrap_interval
from humansim.tables import counted

Embedded = tuple[NDArray[np.float32], Sequence[str]]  # embeddings [images, dim], and the family of each image [images]
NEIGHBOURS = 10


def family(image: str) -> str:
    """The family in a Birds-16 image's path: .../Bird/FAMILY/SPECIES/FILE."""
    *_, found, _, _ = ("", "", *image.split("/"))
    return found


def alike(embedded: NDArray[np.float32], families: Sequence[str], neighbours: int = NEIGHBOURS) -> NDArray[np.float64]:
    """Of each image, the share of its nearest images (cosine, in all dimensions) that are of its family [images]."""
    unit = embedded / np.linalg.norm(embedded, axis=1, keepdims=True)
    near = unit @ unit.T
    np.fill_diagonal(near, -np.inf)
    nearest = np.argsort(-near, axis=1, kind="stable")[:, : min(neighbours, len(unit) - 1)]
    label = np.asarray(families)
    return np.asarray((label[nearest] == label[:, None]).mean(axis=1), dtype=np.float64)


def maps_of(embeddings: Mapping[str, Embedded], simulated: bool = False) -> Picture | None:
    """A map by UMAP for each model, and what of it is true in all dimensions.

    Raises:
        BadInput: a model has not as many families as images.
    """
    if not embeddings:
        return None
    for model, (embedded, labels) in embeddings.items():
        if len(embedded) != len(labels):
            raise BadInput(f"map of {model}: {len(embedded)} embeddings and {len(labels)} families; give one for each")
    families = sorted({label for _, labels in embeddings.values() for label in labels})
    looks = {
        name: (list(PALETTE.values())[i % len(PALETTE)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(families)
    }
    columns = 2 if len(embeddings) > 1 else 1
    lines = -(-len(embeddings) // columns)
    figure, axes = sheet(3.1 * lines + 0.75, lines, columns)
    title = "Maps of the bird images" + (" (simulated photographs)" if simulated else "")
    said_of = []
    for ax, (model, (embedded, labels)) in zip(axes, embeddings.items(), strict=False):
        place = maps.umap(embedded)
        for name, (colour, marker) in looks.items():
            own = np.array([label == name for label in labels])
            ax.plot(
                *place[own].T,
                marker,
                color=colour,
                markersize=4.5,
                markeredgecolor="white",
                markeredgewidth=0.3,
                linestyle="none",
                gid=name,
            )
        share = alike(embedded, labels)
        low, high = bootstrap_interval(share)
        told = f"{100 * share.mean():.0f} % [{100 * low:.0f}, {100 * high:.0f}]"
        ax.set_title(pretty(model))
        ax.text(
            1, 1.02, f"neighbours of its family: {told}", transform=ax.transAxes, ha="right", va="bottom", color=MUTED
        )
        ax.set_xticks([])
        ax.set_yticks([])
        said_of.append(f"{pretty(model)} {told}")
    for ax in axes[len(embeddings) :]:
        ax.axis("off")
    handles = [key(name, colour, marker=marker, linestyle="none") for name, (colour, marker) in looks.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6))
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    count = len(next(iter(embeddings.values()))[1])
    caption = (
        f"UMAP of the embeddings of {count} images, a panel for each model, coloured by family. A map is true of "
        f"neighbours only. Above it, in all dimensions: how many of an image's {NEIGHBOURS} nearest are of its family, "
        "with its 95 % interval (images resampled)."
    )
    if simulated:
        caption += " The photographs stand in for birds."
    alt = (
        f"{title}: {counted(len(embeddings), 'panel')}, {counted(count, 'image')} in {len(families)} families. "
        f"Neighbours of an image's own "
        f"family: {'; '.join(said_of)}."
    )
    return Picture("birds", title, caption, alt, figure)
