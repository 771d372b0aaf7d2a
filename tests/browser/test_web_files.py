"""What can be said about the page's files without a browser."""
import gzip
import re

from chalicelib import http
from chalicelib.portal import REASONS

FILES = {path.name: path.read_text(encoding="utf-8") for path in http._WEB.iterdir()}
SCRIPTS = {name: text for name, text in FILES.items() if name.endswith(".js")}
PAGES = {name: text for name, text in FILES.items() if name.endswith(".html")}


def test_the_whole_client_is_small():
    assert sum(len(gzip.compress(text.encode())) for text in FILES.values()) < 60_000


def test_data_never_becomes_markup_or_code():
    for name, text in SCRIPTS.items():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc", text), name


def test_nothing_is_inline_and_nothing_comes_from_elsewhere():
    for name, text in PAGES.items():
        assert not re.search(r"<style|style=|<script(?![^>]* src=)|\son\w+=|https?:", text), name
    for name, text in FILES.items():
        assert not re.search(r"url\(|@import|(src|href)=\"(/|https?:|//)", text), name


def test_every_file_that_is_named_exists_and_none_is_left_over():
    named = {name for text in PAGES.values() for name in re.findall(r'(?:src|href)="(?:\.\./\.\./)?assets/([^"]+)"', text)}
    named |= {name for text in SCRIPTS.values() for name in re.findall(r'from "\./([^"]+)"', text)}
    assert named | set(PAGES) == set(FILES)


def test_the_page_offers_exactly_the_reasons_that_the_api_takes():
    block = re.search(r"\breasons: \{(.*?)\}", FILES["texts.js"], re.DOTALL)[1]
    assert tuple(re.findall(r"^\s+(\w+):", block, re.MULTILINE)) == REASONS


def test_every_text_is_used_and_every_used_text_exists():
    texts = FILES["texts.js"]
    known = set(re.findall(r"^  (\w+):", texts, re.MULTILINE))
    used = {name for script, text in SCRIPTS.items() if script != "texts.js" for name in re.findall(r"\bT\.(\w+)", text)}
    assert used == known
