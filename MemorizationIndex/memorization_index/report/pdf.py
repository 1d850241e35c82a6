"""The report as PDF, typeset from its HTML by WeasyPrint (BSD-3; needs the system's Pango)."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from memorization_index.errors import MemorizationIndexError, install


def pdf(html: str) -> bytes:
    """A PDF of one self-contained page; nothing is fetched. The same text gives the same bytes.

    Raises :class:`MemorizationIndexError` where WeasyPrint, or the Pango library that it needs, cannot be loaded.
    """
    try:
        import weasyprint
        from weasyprint.urls import URLFetcher
    except (ImportError, OSError) as error:  # OSError: the package is there, Pango is not
        raise MemorizationIndexError(
            f"--pdf: WeasyPrint cannot be used ({str(error).splitlines()[0]}); expected it installed with Pango, "
            f"{install('pdf')}, or print report.html to PDF from a browser."
        ) from error
    # It warns of every property of the screen's style sheet that paper has no use for.
    logging.getLogger("weasyprint").setLevel(logging.ERROR)
    logging.getLogger("fontTools").setLevel(logging.ERROR)
    fetcher = URLFetcher(allowed_protocols=["data"])
    document = weasyprint.HTML(string=html, url_fetcher=fetcher)
    with _no_dates():
        result: bytes = document.write_pdf(pdf_identifier=b"memorization-index", pdf_tags=True)
    return result


@contextmanager
def _no_dates() -> Iterator[None]:
    """fontTools writes the time into each font of a document, unless this variable has one."""
    name = "SOURCE_DATE_EPOCH"
    if name in os.environ:
        yield
        return
    os.environ[name] = "0"
    try:
        yield
    finally:
        del os.environ[name]
