"""Google Drive as it answers, imitated on this machine: the links are the real ones."""

import hashlib
import inspect
import random
import sys
from pathlib import Path

import pytest
from helpers.internet import Internet, Reply, Request, file, in_turn, page, redirect

from um.download import drive, http
from um.errors import BadInput, Gone

ID = "1AbCdEfGhIjKlMnOpQrStUvWxYz012345"
VIEW = f"https://drive.google.com/file/d/{ID}/view?usp=sharing"
UC = "https://drive.google.com/uc"
BYTES = "https://drive.usercontent.google.com/download"
FOLDER = "https://drive.google.com/drive/folders/"
LISTING = "https://drive.google.com/embeddedfolderview"
CONTENT = random.Random(5).randbytes(300_000)
SUM = hashlib.sha256(CONTENT).hexdigest()
HASTY = http.Patience(connect=2, silence=5, tries=3, first_wait=0.01, longest_wait=0.05)

# as Drive sent them in 2024 and 2025, styles and footer left out
WARNING = """<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>
<div class="uc-main"><div id="uc-text"><p class="uc-warning-caption">Google Drive can't scan this file for viruses.</p>
<p class="uc-warning-subcaption"><span class="uc-name-size"><a href="/open?id={id}">data.zip</a> (3.4G)</span> is too
large for Google to scan for viruses. Would you still like to download this file?</p>
<form id="download-form" action="https://drive.usercontent.google.com/download" method="get">
<input type="submit" id="uc-download-link" class="goog-inline-block jfk-button" value="Download anyway"/>
<input type="hidden" name="id" value="{id}"><input type="hidden" name="export" value="download">
<input type="hidden" name="confirm" value="t"><input type="hidden" name="uuid" value="{uuid}"></form></div></body>"""
OLD_WARNING = """<html><head><title>Google Drive - Virus scan warning</title></head><body><a id="uc-download-link"
class="goog-inline-block" href="/uc?export=download&amp;confirm=aB3_&amp;id={id}">Download anyway</a></body></html>"""
QUOTA = """<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body><div class="uc-main">
<p class="uc-error-caption">Sorry, you can't view or download this file at this time.</p><p class="uc-error-subcaption">
Too many users have viewed or downloaded this file recently. Please try accessing the file again later.</p></body>"""
SIGN_IN = "<html><head><title>Google Drive: Sign-in</title></head><body><form action='/signin'></form></body></html>"


@pytest.fixture
def internet(monkeypatch, tmp_path, capfd):
    """Drive's hosts; nothing may be printed, or left in the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with Internet() as internet:
        internet.plug_in(monkeypatch)
        yield internet
    assert capfd.readouterr() == ("", "")
    assert not (tmp_path / "home").exists()


def fetch(target: Path, url: str = VIEW, expected: str | None = None, **options) -> bytes:
    drive.fetch(url, target, http.Order(expected, HASTY, **options))
    return target.read_bytes()


def large(internet: Internet, handler, form: str = WARNING) -> list[str]:
    """A file behind the warning: each visit of the page gives a new link, and only the newest one works."""
    given: list[str] = []

    def warn(request: Request) -> Reply:
        given.append(f"uuid-{len(given)}")
        return page(form.format(id=request.query["id"], uuid=given[-1]))(request)

    def give(request: Request) -> Reply:
        newest = request.query == {"id": ID, "export": "download", "confirm": "t", "uuid": given[-1]}
        return handler(request) if newest else page("<title>Error 403</title>", 403)(request)

    internet.at(UC, warn)
    internet.at(BYTES, give)
    return given


@pytest.mark.parametrize(
    "url",
    [
        VIEW,
        f"https://drive.google.com/file/u/0/d/{ID}/edit",
        f"https://drive.google.com/file/d/{ID}",
        f"https://drive.google.com/open?id={ID}",
        f"https://drive.google.com/uc?id={ID}&export=download",
        f"https://docs.google.com/uc?export=download&id={ID}",
        f"https://drive.usercontent.google.com/download?id={ID}&export=download&confirm=t",
    ],
)
def test_a_small_file_comes_at_once_from_every_form_of_its_link(internet, tmp_path, url):
    internet.at(UC, lambda request: redirect(f"{BYTES}?id={request.query['id']}&export=download")(request))
    internet.at(BYTES, file(CONTENT))
    assert drive.is_drive(url)
    assert not drive.is_folder(url)
    assert fetch(tmp_path / "data.zip", url, expected=SUM) == CONTENT
    assert set(internet.paths("drive.google.com")) == {f"/uc?export=download&id={ID}"}
    assert [path.name for path in tmp_path.iterdir()] == ["data.zip"]


def test_what_is_there_is_not_asked_for(internet, tmp_path):
    (tmp_path / "data.zip").write_bytes(CONTENT)
    assert fetch(tmp_path / "data.zip", expected=SUM) == CONTENT
    assert internet.requests == []


def test_links_of_other_kinds():
    for url in (f"{FOLDER}{ID}", f"https://drive.google.com/drive/u/1/folders/{ID}?usp=sharing", f"{LISTING}?id={ID}"):
        assert drive.is_drive(url)
        assert drive.is_folder(url)
    for url in (
        f"https://docs.google.com/document/d/{ID}/edit",
        f"https://example.org/file/d/{ID}/view",
        f"https://drive.google.com.example.org/uc?id={ID}",
        "https://drive.google.com/drive/my-drive",
        "https://drive.google.com/uc",
        "drive.google.com",
        "",
    ):
        assert not drive.is_drive(url)
        assert not drive.is_folder(url)
    with pytest.raises(BadInput, match="no id of a file"):
        drive.fetch(FOLDER + ID, Path("never"))


def test_the_key_of_an_old_link_goes_along(internet, tmp_path):
    internet.at(UC, file(CONTENT))
    fetch(tmp_path / "data.zip", f"https://drive.google.com/file/d/{ID}/view?usp=sharing&resourcekey=0-abc_D")
    assert set(internet.paths("drive.google.com")) == {f"/uc?export=download&id={ID}&resourcekey=0-abc_D"}


def test_the_warning_leads_on_to_the_file(internet, tmp_path):
    large(internet, file(CONTENT))
    assert fetch(tmp_path / "data.zip", expected=SUM) == CONTENT


@pytest.mark.parametrize("lines", ["one", "many"])
def test_the_form_may_be_on_one_line_or_on_many(internet, tmp_path, lines):
    form = WARNING.replace("\n", "") if lines == "one" else WARNING.replace("><", ">\n<")
    large(internet, file(CONTENT), form)
    assert fetch(tmp_path / "data.zip") == CONTENT


def test_the_warning_of_former_years(internet, tmp_path):
    internet.at(UC, page(OLD_WARNING.format(id=ID)))
    internet.at("https://docs.google.com/uc", file(CONTENT))
    assert fetch(tmp_path / "data.zip", expected=SUM) == CONTENT
    assert set(internet.paths("docs.google.com")) == {f"/uc?export=download&confirm=aB3_&id={ID}"}


def test_a_cut_download_goes_on_with_a_new_link(internet, tmp_path):
    target = tmp_path / "data.zip"
    given = large(internet, file(CONTENT, cut=20_000))
    with pytest.raises(BadInput, match=r"uuid-0: .*\(3 tries"):
        fetch(target, expected=SUM)
    assert not target.exists()
    had = sum(path.stat().st_size for path in tmp_path.glob(".um-*.partial"))
    assert had >= 60_000
    before = len(internet.requests)
    large(internet, file(CONTENT))
    assert given  # the first link, which no longer works
    assert fetch(target, expected=SUM) == CONTENT
    asked = [request.headers["Range"] for request in internet.requests[before:] if "Range" in request.headers]
    assert asked == [f"bytes={had}-"]


def test_a_hiccup_on_the_way_is_slept_over(internet, tmp_path):
    internet.at(UC, in_turn(page("busy", 503), page("busy", 429), file(CONTENT, cut=1000), file(CONTENT)))
    assert fetch(tmp_path / "data.zip", expected=SUM) == CONTENT


def test_progress_is_reported(internet, tmp_path):
    large(internet, file(CONTENT))
    seen: list[tuple[int, int | None]] = []
    fetch(tmp_path / "data.zip", report=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_wrong_bytes_are_refused(internet, tmp_path):
    large(internet, file(CONTENT[:-1] + b"?"))
    with pytest.raises(BadInput, match=f"expected sha256 {SUM}"):
        fetch(tmp_path / "data.zip", expected=SUM)
    assert not (tmp_path / "data.zip").exists()


@pytest.mark.parametrize("where", ["at once", "behind the warning"])
def test_a_file_that_too_many_have_read(internet, tmp_path, where):
    if where == "at once":
        internet.at(UC, page(QUOTA))
    else:
        large(internet, page(QUOTA))
    with pytest.raises(BadInput, match=r"quota exceeded.*try again in a day.*UM_MIRROR") as caught:
        fetch(tmp_path / "data.zip")
    assert not isinstance(caught.value, Gone)
    assert caught.value.where == VIEW


@pytest.mark.parametrize(
    ("handler", "found"),
    [
        (redirect("https://accounts.google.com/ServiceLogin?continue=x"), "sign in"),
        (page("<title>Google Drive - Access Denied</title>You need access", 200), "sign in"),
        (page("no", 403), "sign in"),
        (page("<html><title> Something new </title>"), "a page with the title 'Something new'"),
        (page('<form id="download-form"><input type="hidden" name="id"></form>'), "a page"),
        (
            page(WARNING.format(id=ID, uuid=1).replace("drive.usercontent.google.com/download", "drive.google.com/uc")),
            "4 p",
        ),
        (page("busy", 503), "503 .*3 times"),
        (page("busy", 429), "429 .*3 times"),
    ],
)
def test_what_may_be_mended_is_not_gone(internet, tmp_path, handler, found):
    internet.at(UC, handler)
    internet.at("https://accounts.google.com/ServiceLogin", page(SIGN_IN))
    with pytest.raises(BadInput, match=found) as caught:
        fetch(tmp_path / "data.zip")
    assert not isinstance(caught.value, Gone)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "handler", [page("x", 404), page("Sorry, the file you have requested does not exist."), page("x", 410)]
)
def test_what_is_gone(internet, tmp_path, handler):
    internet.at(UC, handler)
    with pytest.raises(Gone):
        fetch(tmp_path / "data.zip")
    assert len(internet.requests) == 1


def test_nothing_leaves_the_machine(internet, tmp_path):
    with pytest.raises(BadInput, match="502"):
        fetch(tmp_path / "data.zip")


def identity(letter: str) -> str:
    return letter * 33


def entries(title: str, *entries: tuple[str, str]) -> str:
    """A folder's embedded view: (name, link) each."""
    listed = "".join(
        f'<div class="flip-entry" id="entry-x" tabindex="0" role="link"><div class="flip-entry-info">'
        f'<a href="{link}" target="_blank"><div class="flip-entry-visual"></div>'
        f'<div class="flip-entry-title">{name}</div></a></div></div>'
        for name, link in entries
    )
    return f'<html><head><title>{title}</title></head><body><div class="flip-entries">{listed}</div></body></html>'


def view(letter: str) -> str:
    return f"https://drive.google.com/file/d/{identity(letter)}/view?usp=drive_web"


def folders(internet: Internet, **pages: str) -> None:
    internet.at(LISTING, lambda request: page(pages[request.query["id"][0]])(request))


def test_every_form_of_a_folders_link(internet):
    folders(internet, r=entries("r", ("x", view("a"))))
    name = identity("r")
    for url in (
        f"{FOLDER}{name}",
        f"https://drive.google.com/drive/u/0/folders/{name}?usp=x",
        f"{LISTING}?id={name}#list",
    ):
        assert [path for _, path in drive.listing(url, patience=HASTY)] == ["x"]
    with pytest.raises(BadInput, match="no id of a folder"):
        drive.listing(VIEW)


def test_a_folder_with_folders_in_it(internet, tmp_path):
    folders(
        internet,
        r=entries(
            "features", ("gt.json", view("a")), ("train &amp; test", FOLDER + identity("s")), ("z.npy", view("b"))
        ),
        s=entries("train & test", ("one.npy", view("c")), ("empty", FOLDER + identity("e"))),
        e=entries("empty"),
    )
    found = drive.listing(f"{FOLDER}{identity('r')}?usp=sharing", patience=HASTY)
    assert [path for _, path in found] == ["gt.json", "train & test/one.npy", "z.npy"]
    internet.at(UC, lambda request: file(request.query["id"][:1].encode())(request))
    for link, path in found:
        fetch(tmp_path / path.replace("/", "-"), link)
    assert (tmp_path / "train & test-one.npy").read_bytes() == b"c"


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "..", "a/../../evil", "..\\evil"])
def test_names_stay_inside_the_folder(internet, name):
    folders(
        internet, r=entries("r", (name, view("a")), (name, FOLDER + identity("s"))), s=entries("s", (name, view("b")))
    )
    paths = [path for _, path in drive.listing(FOLDER + identity("r"), patience=HASTY)]
    assert len(paths) == 2
    for path in paths:
        assert Path("/in", path).is_relative_to("/in")
        assert ".." not in Path(path).parts


@pytest.mark.parametrize(("name", "found"), [("../x", "'../x'"), ("/x", "'/x'"), ("a/../../x", "'a/../../x'")])
def test_a_name_that_leads_out_is_refused_even_if_it_comes_through(monkeypatch, name, found):
    class Entry:
        id, path = ID, name

    monkeypatch.setattr(drive.gdown, "download_folder", lambda *_, **__: [Entry()])
    with pytest.raises(BadInput, match=f"found the file {found}"):
        drive.listing(FOLDER + ID, patience=HASTY)


def test_two_files_of_one_name(internet):
    folders(internet, r=entries("r", ("x", view("a")), ("x", view("b"))))
    with pytest.raises(BadInput, match="the file 'x' twice"):
        drive.listing(FOLDER + identity("r"), patience=HASTY)


def test_a_busy_listing_is_asked_again(internet):
    internet.at(LISTING, in_turn(page("x", 429), page("x", 500), page(entries("r", ("x", view("a"))))))
    assert drive.listing(FOLDER + identity("r"), patience=HASTY) == [(f"{UC}?export=download&id={identity('a')}", "x")]
    internet.at(LISTING, page("x", 503))
    with pytest.raises(BadInput, match=r"status code 503.*\(3 times\)"):
        drive.listing(FOLDER + identity("r"), patience=HASTY)


@pytest.fixture
def shallow():
    """Python's limit of recursion is near: a folder inside itself is asked for until it is reached."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 150)
    yield
    sys.setrecursionlimit(limit)


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize(
    ("handler", "kind", "found"),
    [
        (page("x", 404), Gone, "HTTP 404"),
        (page("x", 403), BadInput, "status code 403"),
        (page("no title"), BadInput, "structure may have changed"),
        (redirect("https://accounts.google.com/ServiceLogin"), BadInput, "no files"),
        (page(entries("r", ("again", FOLDER + identity("r")))), BadInput, "a folder inside itself"),
    ],
)
def test_a_folder_that_cannot_be_listed(internet, handler, kind, found):
    internet.at(LISTING, handler)
    internet.at("https://accounts.google.com/ServiceLogin", page(SIGN_IN))
    with pytest.raises(BadInput, match=found) as caught:
        drive.listing(FOLDER + identity("r"), patience=HASTY)
    assert type(caught.value) is kind
