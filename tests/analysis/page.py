"""A page of HTML, read for tests."""

import html.parser
from pathlib import Path

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(html.parser.HTMLParser):
    """A page's images, ids, links, resources and text; asserts that every element is closed."""

    def __init__(self, path: Path):
        super().__init__()
        self.images, self.ids, self.links, self.resources, self.text, self.open = [], [], [], [], "", []
        self.scripts = 0
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(attributes)
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag == "a":
            self.links.append(attributes["href"])
        elif "href" in attributes:
            self.resources.append(attributes["href"])
        if "src" in attributes:
            self.resources.append(attributes["src"])
        assert tag != "iframe"
        self.scripts += tag == "script"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
