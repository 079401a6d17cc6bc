"""The pages in a real browser: what people do with them, and what hostile text does not do (SPEC: SITE)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.e2e.browser import SCHEMES, SCREENSHOTS, Tab, chromium
from tests.e2e.conftest import RunningServer, start_server
from tests.e2e.hosts import free_port
from tests.e2e.pages_content import HOME, HOSTILE_PATH, LINES, NEEDLE, NEEDLE_LINE, fill
from tests.e2e.shipped import shipped_nginx

PLACES = {
    "home": "/",
    "workspace": f"/w/{HOME}",
    "knowledge": f"/w/{HOME}/knowledge",
    "document": f"/w/{HOME}/knowledge/ops/deploy.md",
    "history": f"/w/{HOME}/history/ops/deploy.md?from=1&to=2",
    "sessions": f"/w/{HOME}/sessions",
    "session": f"/w/{HOME}/sessions/long?line={NEEDLE_LINE}&q=quagmire#L{NEEDLE_LINE}",
    "search": "/search?q=checkout+total",
    "search-empty": "/search",
    "memories": "/memories",
    "machines": "/machines",
    "admin": "/admin",
    "error": "/w/nothing-here",
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    running = start_server(tmp_path_factory.mktemp("pages") / "memory")
    fill(running)
    yield running
    running.stop()
    assert not running.problems()


@pytest.fixture
def tab(browser: Any, server: RunningServer) -> Iterator[Tab]:
    """Signed in as an admin."""
    with Tab(browser, server.url, **SCHEMES["light"]) as tab:
        tab.sign_in(server.admin_token)
        yield tab


@pytest.mark.spec("SITE-1", "SITE-2")
def test_signing_in_and_out(browser: Any, server: RunningServer) -> None:
    with Tab(browser, server.url) as tab:
        page = tab.page
        page.goto(f"/w/{HOME}/knowledge")
        assert page.url.endswith(f"/sign-in?next={quote(f'/w/{HOME}/knowledge', safe='')}")
        page.get_by_label("Token").fill("wrong")
        page.keyboard.press("Enter")
        assert "not valid" in page.get_by_role("status").inner_text()
        page.get_by_label("Token").fill(server.ai_token)
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/w/{HOME}/knowledge")
        (cookie,) = tab.context.cookies()
        assert cookie["name"].startswith("fedmem-")
        assert cookie["httpOnly"]
        assert cookie["sameSite"] == "Lax"
        assert page.evaluate("document.cookie") == ""

        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url("**/sign-in")
        page.goto("/")
        assert page.url.endswith("/sign-in")


@pytest.mark.spec("SITE-8", "SITE-9")
def test_a_search_leads_into_the_middle_of_a_long_session(tab: Tab) -> None:
    page = tab.page
    page.keyboard.press("/")
    page.keyboard.type(NEEDLE)
    page.keyboard.press("Enter")
    page.wait_for_url("**/search?q=*")
    assert page.locator("mark").first.inner_text().lower() in NEEDLE
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/sessions/long?line={NEEDLE_LINE}*")

    hit = page.locator(f"#L{NEEDLE_LINE}")
    assert hit.evaluate("element => element.classList.contains('hit')")
    assert NEEDLE in hit.locator("pre").inner_text()
    box = hit.bounding_box()
    assert 0 <= box["y"] < page.viewport_size["height"], "the page opens where the hit is"
    assert page.evaluate("CSS.highlights.get('looked-for').size") > 0

    following = page.locator(".turn").last.get_attribute("id")
    page.keyboard.press("]")
    page.wait_for_url("**start=*")
    first = page.locator(".turn").first.get_attribute("id")
    assert int(first[1:]) == int(following[1:]) + 1, "the next page goes on where this one ended"
    page.get_by_role("link", name="Last").first.click()
    page.wait_for_url("**before=*")
    assert page.locator(".turn").last.get_attribute("id") == f"L{LINES - 1}"


@pytest.mark.spec("SITE-7")
def test_versions_are_compared_and_one_is_restored(tab: Tab, server: RunningServer) -> None:
    page = tab.page
    page.goto(f"/w/{HOME}/knowledge/ops/deploy.md")
    assert page.get_by_text("Ask Ana").count() == 1
    page.get_by_role("link", name="History").click()
    page.get_by_label("Compare from version 1").check()
    page.get_by_label("Compare to version 2").check()
    page.get_by_role("button", name="Compare").click()
    page.wait_for_url(re.compile(r"from=1"))
    assert page.locator("tr.added .new").all_inner_texts()[-1].strip().endswith("4. Warm the cache")
    assert page.locator(".new .differs").count() >= 2
    row = page.get_by_role("row").filter(has=page.get_by_label("Compare to version 2"))
    row.get_by_text("Restore", exact=True).click()
    row.get_by_role("button", name="Restore version 2").click()
    page.wait_for_url("**restored=4")

    assert "Restored: version 4" in page.get_by_role("status").inner_text()
    with server.api() as api:
        kept = api.call("GET", f"/api/v1/workspaces/{HOME}/knowledge/ops/deploy.md")
    assert kept.headers["x-version"] == "4"
    assert b"ENV=production" in kept.body
    page.goto(f"/w/{HOME}/history/ops/deploy.md")
    stale = page.context.new_page()
    stale.goto(f"/w/{HOME}/history/ops/deploy.md")
    for where in (page, stale):
        row = where.get_by_role("row").filter(has=where.get_by_label("Compare to version 1", exact=True))
        row.get_by_text("Restore", exact=True).click()
        row.get_by_role("button", name="Restore version 1").click()
    assert "Conflict" in stale.get_by_role("heading", level=1).inner_text()


@pytest.mark.spec("SITE-13")
def test_a_memory_is_found_read_and_deleted_with_a_reason(tab: Tab) -> None:
    page = tab.page
    page.get_by_role("link", name="Memories").click()
    page.get_by_label("Kind").select_option("bug")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**memory_kind=bug*")
    assert page.locator(".rows li").count() == 4
    page.locator(".rows li").filter(has_text=HOME).get_by_role("link", name="The total was rounded twice").click()
    page.wait_for_url("**/memories/2*")
    assert page.locator(".text strong").inner_text() == "keep the last one"
    tab.shot("memory")
    page.get_by_text("Delete this memory").click()
    page.get_by_label("Why").fill("Fixed for good")
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_text("Fixed for good").wait_for()
    assert page.get_by_text("Delete this memory").count() == 0


@pytest.mark.spec("SITE-10", "SITE-2")
def test_a_token_is_made_shown_once_used_and_revoked(browser: Any, tab: Tab, server: RunningServer) -> None:
    page = tab.page
    page.get_by_role("link", name="Admin").click()
    page.locator("#token-name").fill("reader-of-the-test")
    page.locator("#token-role").select_option("read")
    page.get_by_role("button", name="Create the token").click()
    token = page.get_by_label("Token", exact=True).input_value()
    assert token.startswith("fm_read_")
    tab.shot("token-made")
    page.goto("/admin")
    assert token not in page.content()

    with Tab(browser, server.url) as other:
        other.sign_in(token)
        assert other.page.get_by_role("link", name="Admin").count() == 0
        other.page.goto(f"/w/{HOME}/history/ops/deploy.md")
        assert other.page.get_by_text("Restore", exact=True).count() == 0
        row = page.get_by_role("row").filter(has_text="reader-of-the-test")
        row.get_by_text("Revoke", exact=True).click()
        row.get_by_role("button").click()
        page.wait_for_url("**/admin#tokens")
        other.page.goto("/")
        assert other.page.url.endswith("/sign-in")
        assert "You were signed out" in other.page.get_by_role("status").inner_text()


@pytest.mark.spec("SITE-10")
def test_an_invitation_shows_the_line_to_run(tab: Tab) -> None:
    page = tab.page
    page.goto("/admin")
    page.locator("#invitation-machine").fill("new-laptop")
    page.get_by_role("button", name="Invite", exact=True).click()

    line = page.get_by_label("Linux, macOS").input_value()
    assert re.match(r"curl -fsS http://127\.0\.0\.1:\d+/client/install\.sh \| sh -s -- --invite ", line)
    page.goto("/admin")
    page.get_by_role("button", name="Withdraw").click()
    assert page.get_by_role("row").filter(has_text="new-laptop").get_by_text("withdrawn").count() == 1


@pytest.mark.spec("SITE-5", "SITE-6")
def test_hostile_text_does_nothing_in_a_browser(tab: Tab) -> None:
    page = tab.page
    document = f"/w/{HOME}/knowledge/{quote(HOSTILE_PATH)}"
    for path in (
        "/", f"/w/{HOME}/knowledge", document, document.replace("/knowledge/", "/history/"),
        f"/w/{HOME}/sessions", f"/w/{HOME}/sessions/hostile", f"/w/{HOME}/sessions/hostile?line=2", "/search?q=hurt",
        "/search?q=%22%3E%3Cscript%3Ewindow.hurt%3D8%3C%2Fscript%3E",
    ):  # fmt: skip
        page.goto(path)
        page.evaluate("document.querySelectorAll('main details').forEach((folded) => { folded.open = true; })")
        assert page.evaluate("window.hurt") is None, path
        assert page.evaluate("getComputedStyle(document.body).display") != "none", path
        assert page.locator("main iframe, main svg, main img, main style, main meta, main script").count() == 0, path
    page.goto(document)
    assert "<script>window.hurt = 1</script>" in page.get_by_role("heading", level=2).inner_text()
    assert page.get_by_text("click me").count() == 1
    assert page.get_by_role("link", name="click me").count() == 0, "it is text, for where it led is no page"
    assert page.get_by_role("heading", level=1).inner_text() == HOSTILE_PATH
    tab.shot("hostile")


@pytest.mark.spec("SITE-4")
def test_the_policy_stops_what_a_fault_in_the_pages_would_let_through(browser: Any, server: RunningServer) -> None:
    """The broken twin: the same harm, put into the page as a fault would, is refused by the browser."""
    with Tab(browser, server.url) as tab:
        tab.sign_in(server.admin_token)
        tab.page.evaluate(
            """() => { const place = document.querySelector("main");
            place.innerHTML = '<img src="x" onerror="window.hurt = 1"><img src="http://pixel.invalid/a.png">'
              + '<style>body { display: none }</style><form action="http://away.invalid/"><button>go</button></form>';
            const script = document.createElement("script");
            script.textContent = "window.hurt = 2";
            place.append(script);
            }"""
        )
        tab.page.wait_for_function("() => document.querySelectorAll('main img')[1].complete")
        hurt = tab.page.evaluate("[window.hurt === undefined, getComputedStyle(document.body).display]")
        assert hurt[0]
        assert hurt[1] != "none"
        assert any("Content Security Policy" in fault for fault in tab.faults)
        tab.faults.clear()
        tab.elsewhere.clear()


@pytest.mark.spec("SITE-11")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_page_fits_and_is_kept_as_a_picture(browser: Any, server: RunningServer, scheme: str) -> None:
    with Tab(browser, server.url, **SCHEMES[scheme]) as tab:
        tab.page.goto("/sign-in")
        tab.shot(f"sign-in-{scheme}")
        tab.sign_in(server.admin_token)
        for name, path in PLACES.items():
            tab.page.goto(path)
            wide, room = tab.page.evaluate(
                "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
            )
            assert wide <= room, f"{path} is wider than the screen"
            tab.shot(f"{name}-{scheme}")
    assert len(list(SCREENSHOTS.glob(f"*-{scheme}.png"))) >= len(PLACES)


@pytest.mark.spec("SITE-11")
def test_everything_is_reached_by_keyboard_and_the_focus_is_seen(tab: Tab) -> None:
    page = tab.page
    page.goto(f"/w/{HOME}")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0, "it shows itself"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")
    seen = []
    for _ in range(40):
        seen.append(page.evaluate("document.activeElement.textContent.trim()"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", seen[-1]
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
    assert {"Overview", "History", ["ops", "deploy.md"][0] and "Deploying"} <= {*seen}


@pytest.mark.spec("SITE-8", "SITE-9")
def test_the_pages_work_without_their_script(browser: Any, server: RunningServer) -> None:
    with Tab(browser, server.url, java_script_enabled=False) as tab:
        tab.sign_in(server.ai_token)
        tab.page.locator("#find").fill(NEEDLE)
        tab.page.locator("#find").press("Enter")
        tab.page.wait_for_url("**/search?q=*")
        tab.page.locator(".hits a.name").first.click()
        tab.page.wait_for_url("**/sessions/long?line=*")
        assert NEEDLE in tab.page.locator(".turn.hit pre").inner_text()


@pytest.mark.spec("SITE-1", "SITE-3", "DEPLOY-4")
def test_the_pages_pass_the_shipped_nginx(browser: Any, tmp_path: Path) -> None:
    port = free_port("127.0.0.1")
    running = start_server(
        tmp_path / "memory", PUBLIC_URL=f"https://localhost:{port}", MEMORY_TRUSTED_PROXIES="127.0.0.1"
    )
    try:
        upstream = f"127.0.0.1:{running.address[1]}"
        with (
            shipped_nginx(tmp_path / "site", upstream, port),
            Tab(browser, f"https://localhost:{port}", ignore_https_errors=True) as tab,
        ):
            tab.sign_in(running.admin_token)
            (cookie,) = tab.context.cookies()
            assert cookie["name"].startswith("__Host-fedmem-")
            assert cookie["secure"]
            answer = tab.page.goto("/machines")
            assert len(answer.headers_array()) == len({header["name"].lower() for header in answer.headers_array()})
            tab.page.get_by_role("button", name="Sign out").click()
            tab.page.wait_for_url("**/sign-in")
    finally:
        running.stop()
