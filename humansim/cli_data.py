"""`humansim data`: fetch, list, prepare, verify, audit."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from humansim.root import Root

EXAMPLES = """\
  humansim data fetch bapps                        1.1 GB, goes on where it was interrupted
  humansim data fetch birds16                      judgements and photographs
  humansim data fetch hsj --images ILSVRC2012_val  judgements; ImageNet's images are yours to get
  humansim data list                               what is there, of each release
  humansim data prepare study                      check everything, decode every image once, write the sets
  humansim data prepare simulated                  the same on small releases with simulated judges, no network
  humansim data audit study                        what fit sets share with evaluation sets"""


def add(commands: Any, where: argparse.ArgumentParser, output: argparse.ArgumentParser) -> None:
    """Adds the command and its own commands to the parser."""
    formatter = argparse.RawDescriptionHelpFormatter
    text = "get, check and look at the study's data"
    data = commands.add_parser("data", help=text, description=text, epilog=EXAMPLES, formatter_class=formatter)
    data.set_defaults(command=lambda given: data.print_help() or 0)
    parts = data.add_subparsers(metavar="COMMAND", title="commands")

    def command(name: str, function: Any, text: str) -> argparse.ArgumentParser:
        first = text.partition("\n")[0]
        one: argparse.ArgumentParser = parts.add_parser(
            name, help=first, description=text, parents=[where, output], formatter_class=formatter
        )
        one.set_defaults(command=function)
        return one

    one = command(
        "fetch",
        _fetch,
        "download a release and unpack it\n\n"
        "An interrupted download goes on where it was; sizes and SHA-256 sums are checked; a folder is there whole or\n"
        "not at all. The photographs of hsj are ImageNet's validation images, which may not be passed on: give your\n"
        "own folder of them, flat or by class, with --images.",
    )
    one.add_argument("release", choices=("bapps", "birds16", "hsj"))
    one.add_argument("--part", help="bapps: val (default) or train; birds16: judgements, images (default: both)")
    one.add_argument("--mirror", metavar="URL", help="look for the archives here first; also a folder")
    one.add_argument("--images", metavar="DIR", help="your own folder of a release's images; a link to it is made")
    command("list", _list, "what is there of each release")
    for name, function, text in (
        ("prepare", _prepare, "check a source, decode each image once, write its evaluation and fine-tuning sets"),
        ("verify", _verify, "read everything again: judgements, files, every stored image"),
        ("audit", _audit, "what the fine-tuning sets share with the evaluation sets"),
    ):
        one = command(name, function, text)
        one.add_argument("source", metavar="SOURCE", help="study, bapps, hsj, birds16, simulated, or a folder")
        one.add_argument("--size", default="1000", metavar="N", help="triplets in each evaluation set, or all (1000)")
        one.add_argument("--seed", type=int, default=0, help="of the draw (0)")
        one.add_argument("--resolution", type=int, default=224, metavar="PIXELS", help="of the stored images (224)")
        one.add_argument("--workers", type=int, metavar="N", help="threads that decode (one for each core)")
        if name != "verify":
            protocols = ("heldout", "heldout_images", "thesis")
            one.add_argument("--protocol", choices=protocols, default="heldout", help="how the sets are kept apart")


def _fetch(given: argparse.Namespace) -> int:
    from humansim import show
    from humansim.errors import BadInput
    from humansim.root import Root
    from humansim.sources import releases
    from humansim.spec import near

    root = Root.at(given.root, given.data)
    known = releases.RELEASES[given.release]
    default = ["val"] if given.release == "bapps" else list(known)
    parts = [given.part] if given.part else default
    if parts[0] not in known:
        raise BadInput(f"--part: {given.release} has no part {given.part!r}{near(given.part, list(known))}")
    folder = root.data / given.release
    images = Path(given.images) if given.images else None
    if images:
        if given.release == "bapps":
            raise BadInput("--images: the images of BAPPS come with its judgements; leave it out")
        check_link(folder / "images", images)  # before anything is fetched
        parts = [part for part in parts if part != "images"]
    there = [str(_fetch_part(root.data, given.release, part, given.mirror)) for part in parts]
    if images:
        check_images(folder, images)
        link(folder / "images", images)
        there.append(str(folder / "images"))
    if given.release == "hsj" and releases.find(root.data, "hsj", "images") is None:
        show.console(stderr=True).print(releases.IMAGENET, soft_wrap=True, markup=False)
    if given.json:
        show.json_document({"release": given.release, "folders": there})
    else:
        print(f"{given.release}: {', '.join(there) or folder / 'images'}   Next: humansim data prepare {given.release}")
    return 0


def _fetch_part(data: Path, name: str, part: str, mirror: str | None) -> Path:
    """The folder of a part of a release, fetched and unpacked if it is not there. Who else wants it waits."""
    from humansim import download, show
    from humansim.errors import BadInput
    from humansim.root import locked
    from humansim.sources import archive, releases

    published, place = releases.RELEASES[name][part], releases.place(data, name, part)
    file = data / name / "archives" / published.download.name
    if releases.find(data, name, part) is None:
        with locked(file.with_name(f"{part}.lock"), wait=True):
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()
            if not place.is_dir():
                with show.transfer(file.name) as progress:
                    download.fetch(published.download, file.parent, mirror=mirror, progress=progress)
                with show.transfer(f"unpacking {file.name}") as progress:
                    try:
                        archive.unpack(file, place, strip=published.strip, holds=published.holds, progress=progress)
                    except archive.WrongArchiveError as error:
                        aside = file.with_name(f"{file.name}.refused")
                        file.replace(aside)  # the next fetch is the first again
                        download.forget(file)
                        raise BadInput(f"{error}. It was put aside as {aside}") from None
    if download.was_fetched(file):
        file.unlink(missing_ok=True)  # what it was is on record beside it
    return releases.find(data, name, part) or place


def check_link(place: Path, images: Path) -> None:
    """Refuses what no link can be made of.

    Raises:
        BadInput: there is no such folder, or another one is in the link's place.
    """
    from humansim.errors import BadInput

    if not images.is_dir():
        raise BadInput(f"--images {images}: no such folder")
    if place.exists() and not place.is_symlink() and not place.samefile(images):
        raise BadInput(f"{place}: a folder of images is there already; remove it first")


def check_images(folder: Path, images: Path) -> None:
    """Looks for every image of a release's catalogue in a folder, by class or flat.

    Raises:
        BadInput: some are missing: how many, and the first.
    """
    from humansim import show
    from humansim.errors import BadInput
    from humansim.sources import psiz

    if not psiz.trial_files(folder):
        note = f"{images}: not checked, as the judgements that name its images are not there yet; `prepare` checks it"
        show.console(stderr=True).print(note, soft_wrap=True, markup=False)
        return
    names = psiz.read_names(folder)
    found = psiz.images_in(images, names)
    missing = [name for name in names if name not in found]
    if missing:
        raise BadInput(
            f"--images {images}: {len(missing):,} of the {len(names):,} images of {folder.name} are missing; the "
            f"first: {missing[0]}; they may lie there by class or flat; no link was made"
        )


def link(place: Path, images: Path) -> None:
    """Makes a release's image folder a link to the user's own, in place of an older link."""
    if place.exists() and place.samefile(images):
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = place.with_name(f".{place.name}-link")
    aside.unlink(missing_ok=True)
    aside.symlink_to(images.resolve())
    aside.replace(place)


def _list(given: argparse.Namespace) -> int:
    from humansim import show
    from humansim.root import Root
    from humansim.sources import releases

    root = Root.at(given.root, given.data)
    rows = []
    for name, parts in releases.RELEASES.items():
        for part, archive in parts.items():
            place = releases.find(root.data, name, part)
            rows.append(
                {
                    "release": name,
                    "part": part,
                    "what": archive.what,
                    "download": "unknown" if archive.download.size is None else f"{archive.download.size / 1e6:.1f} MB",
                    "on disk": f"about {archive.disk / 1e6:,.0f} MB",
                    "complete": _complete(root.data, name, part),
                    "there": str(place or "no"),
                }
            )
    place = releases.find(root.data, "hsj", "images")
    yours_is = {"complete": _complete(root.data, "hsj", "images"), "there": str(place or "no")}
    yours = {"release": "hsj", "part": "images", "what": "ImageNet's validation images, your own copy"}
    rows.append(yours | {"download": "", "on disk": "6,700 MB"} | yours_is)
    if given.json:
        show.json_document(rows)
    else:
        rows = [row | {"complete": row["complete"].replace("; ", "\n")} for row in rows]
        show.console().print(show.plain(rows, f"releases in {root.data}"))
    return 0


def _complete(data: Path, name: str, part: str) -> str:
    from humansim.sources import releases

    if releases.find(data, name, part) is None:
        return ""
    different = [str(one) for one in releases.counts(data, name, part) if not one.complete]
    if part == "judgements":
        different.append("prepare counts the trials")
    return "; ".join(different) or "yes"


def _counts(judgements: Any) -> list[dict[str, Any]]:
    """For JSON: what was counted of the releases."""
    return [vars(one) | {"complete": one.complete} for one in judgements.counts]


def _tell_counts(judgements: Any) -> None:
    """What differs from what is published, a line each; or that nothing does."""
    counts = judgements.counts
    different = [str(one) for one in counts if not one.complete]
    what = " and ".join(dict.fromkeys(one.what for one in counts))
    for line in different or [f"{judgements.name} is complete: as many {what} as are published"] if counts else []:
        print(line)


def _prepare(given: argparse.Namespace) -> int:
    from humansim import show
    from humansim.datasets import write_sets

    root, judgements, store = _open(given)
    folder = root.path / "sets" / judgements.name
    rows = write_sets(judgements, store, given.protocol, folder)
    if given.json:
        counts = _counts(judgements)
        show.json_document({"source": judgements.name, "sets": rows, "counts": counts, "folder": str(folder)})
        return 0
    note = " (simulated judges)" if judgements.simulated else ""
    show.console().print(show.plain(rows, f"{judgements.name}{note}, protocol {given.protocol}"))
    _tell_counts(judgements)
    print(f"Sets: {folder}   Images: {root.images}")
    return 0


def _verify(given: argparse.Namespace) -> int:
    from humansim import images, show
    from humansim.errors import BadInput
    from humansim.pasted import to_follow
    from humansim.root import Root
    from humansim.sources import parsed

    root = Root.at(given.root, given.data)
    if not images.prepared(root, given.resolution):
        again = to_follow(given, "data", "prepare", given.source, "--resolution", str(given.resolution))
        raise BadInput(f"{root.images}: no images were prepared at {given.resolution} pixels; first: {again}")
    parsed.forget(root)
    root, judgements, store = _open(given)
    with show.counting("images") as progress:
        images.verify_files(judgements, store, progress)
    images.verify(root, given.resolution)
    found = {"source": judgements.name, "judgements": len(judgements.triplets), "images": len(store)}
    if given.json:
        show.json_document({**found, "counts": _counts(judgements)})
    else:
        _tell_counts(judgements)
        print(f"{judgements.name}: {len(judgements.triplets):,} judgements of {len(store):,} images are as they were")
    return 0


def _audit(given: argparse.Namespace) -> int:
    from humansim import show
    from humansim.datasets import audit_sets

    _, judgements, store = _open(given)
    rows = audit_sets(judgements, store, given.protocol)
    if given.json:
        show.json_document(rows)
        return 0
    show.console().print(show.plain(rows, f"{judgements.name}, protocol {given.protocol}: what is shared"))
    leaks = sum(any(row[name] for name in ("triplets", "trials")) for row in rows)
    images = sum(row["images"] > 0 for row in rows)
    what = "of fine-tuning and evaluation set share"
    print(f"{leaks} of {len(rows)} pairs {what} judgements; {images} {what} images, of equal content or the same")
    return 0


def _open(given: argparse.Namespace) -> tuple["Root", Any, Any]:
    """Root, judgements and image store of the source that a command names."""
    import dataclasses

    from humansim import images, show, sources
    from humansim.errors import BadInput
    from humansim.root import Root
    from humansim.sources import source

    if not 8 <= given.resolution <= 4096:
        raise BadInput(f"--resolution: {given.resolution} pixels; it goes from 8 to 4096")
    if given.workers is not None and given.workers < 1:
        raise BadInput(f"--workers: {given.workers} threads; it goes from 1")
    root, variant = sources.named(Root.at(given.root, given.data), given.source)
    if given.size != "all" and not (given.size.isascii() and given.size.isdigit() and int(given.size) > 0):
        raise BadInput(f"--size: {given.size!r} is neither a number of triplets nor 'all'")
    size = None if given.size == "all" else int(given.size)
    if "size" in source.entry(variant).arguments:
        variant = source.normal(variant.having(size=size or "all", seed=given.seed))
    judgements = sources.read(variant, root)
    if not judgements.parts:
        judgements = dataclasses.replace(judgements, size=size, seed=given.seed)
    with show.counting("images") as progress:
        store = images.open_store(root, judgements, given.resolution, progress, workers=given.workers)
    return root, judgements, store
