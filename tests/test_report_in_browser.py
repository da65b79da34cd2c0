"""The report in a real browser: readable at any width, silent, and deaf to what a model wrote."""

import shutil

import pytest
from report_runs import metrics_row, sampled_row, solved_row, write_json, write_rows, write_run

from recipes import report

pytestmark = pytest.mark.needs_browser

WIDTHS = {"desktop": 1280, "phone": 390}
ATTACKS = [
    "<script>window.ran = 1</script>",
    "<img src=x onerror='window.ran = 1'>",
    '"><svg onload="window.ran = 1">',
    "</style></textarea><iframe srcdoc='<script>parent.ran = 1</script>'></iframe>",
    "<a href='javascript:window.ran = 1'>x</a>{{ 7 * 7 }}",
]


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict:
    """A report of each kind, made of hostile texts, long words and every sort of curve."""
    runs = tmp_path_factory.mktemp("runs")
    attack = "".join(ATTACKS)
    name = f"{attack}_reward"
    rows = [metrics_row(step, 12, **{f"rewards/{name}/mean": step / 12, "kl": 0.01 * step}) for step in range(1, 13)]
    hostile = write_run(
        runs / "<img src=x onerror=ran=1>&quot;",
        metrics=rows,
        given={"task": "gsm8k", "output_dir": attack, attack[:40]: attack, "long": "x" * 3000},
        about={"rewards": {name: 1.0, "think_format_reward": 0.0}, "correctness": name, "machine": attack},
        result={"model": attack},
    )
    solved = [solved_row(i, True) | {"question": f"{attack} {i}", "answer": attack, name: 1.0} for i in range(10)]
    for row, completion in zip(solved, [attack, f"<think>{attack}</think>{attack}", "x" * 20_000], strict=False):
        row["completion"] = completion
    for when in ("before", "after", "during_000004"):
        write_rows(hostile / "samples" / f"{when}.jsonl", solved)
    write_rows(hostile / "samples" / "step_000012.jsonl", solved)
    for when in ("before", "after"):
        row = sampled_row(3, ["3", "3", "4", attack])
        row["rewards"][name] = [1.0, 1.0, 0.0, 0.0]
        write_rows(hostile / "samples" / f"{when}_sampled.jsonl", [row] * 20)

    pipeline = runs / "r1"
    write_run(pipeline / "rl", problems=100, before=40, after=80)
    write_run(pipeline / "final", problems=100, before=80, after=90)
    (pipeline / "pipeline.yaml").write_text("# A pipeline of trl-recipes.\npipeline: r1\n")
    write_json(pipeline / "result.json", {"minutes": {attack: 1.0}})
    return {
        "run": report.write_report(hostile),
        "pipeline": report.write_report(pipeline),
        "comparison": report.write_comparison([hostile, pipeline, pipeline / "rl"], runs / "report.html"),
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", ["run", "pipeline", "comparison"])
def test_a_page_is_readable_silent_and_inert(browser, pages, kind, width, scheme):
    page = browser.new_page(viewport={"width": WIDTHS[width], "height": 900}, color_scheme=scheme)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(pages[kind].as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    page.wait_for_timeout(50)

    assert page.evaluate("window.ran") is None and said == []
    assert [url for url in asked if not url.startswith("data:")] == [pages[kind].as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") == WIDTHS[width]
    assert page.locator("script, img, iframe, object, embed, a[href^=javascript]").count() == 0
    assert kind != "run" or "{{ 7 * 7 }}" in page.locator("main").inner_text()
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, background.removeprefix("rgb(").removesuffix(")").split(",")))
    assert (brightness > 600) == (scheme == "light")
    page.close()


def test_every_figure_is_described_and_large_enough_to_read(browser, pages):
    page = browser.new_page(viewport={"width": 390, "height": 900})
    page.goto(pages["run"].as_uri())
    figures = page.locator("svg.plot")
    assert figures.count() > 8
    labels = figures.evaluate_all("all => all.map(one => one.getAttribute('aria-label'))")
    assert all(len(label) > 20 for label in labels)
    heights = page.locator("svg.plot text").evaluate_all("all => all.map(one => one.getBoundingClientRect().height)")
    assert min(heights) > 9
    page.close()


def test_a_page_keeps_its_light_colours_on_paper(browser, pages):
    page = browser.new_page(color_scheme="dark")
    page.goto(pages["run"].as_uri())
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    page.close()
