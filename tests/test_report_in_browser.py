"""The report in a real browser: readable at any width, silent, and deaf to what a model wrote."""

import shutil
from pathlib import Path

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


KINDS = ["run", "ppo", "dpo", "evaluation", "over-optimization", "pipeline", "comparison"]


def over_optimization(folder: Path, attack: str) -> Path:
    """The folder of a pipeline with a run for each trainer, one of them with a hostile name."""
    for name in ("rm", "grpo-0.001", "ppo-0.3"):
        write_run(folder / name, recipe=name.partition("-")[0], about={"machine": attack})
    points = [{"kl": i / 2, "proxy": i / 15, "gold": (0.9 if i < 8 else 0.9 - i / 20)} for i in range(15)]
    best_of_n = [{"n": n, "kl": n / 8, "proxy": n / 16, "gold": 0.9} for n in (1, 2, 16)]
    (folder / "pipeline.yaml").write_text("# A pipeline of trl-recipes.\npipeline: overoptimize\n")
    runs = {"grpo-0.001": points, "ppo-0.3": points[:3], f"grpo-{attack}": points}
    told = {"task": attack, "model": attack, "seed": 42, "given": {attack: attack, "kl_coefs": [0.001] * 40}}
    write_json(folder / "result.json", {**told, "runs": runs, "best_of_n": best_of_n})
    return folder


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
    critic = {"value/loss": 0.1, "value/explained_variance": -0.2, "objective/kl": 12.5, "kl_coef": 0.05}
    rows = [metrics_row(step, 12, **critic, **{"clip_ratio/region_mean": step / 100}) for step in range(1, 13)]
    ppo = write_run(runs / "ppo", recipe="ppo", metrics=rows, result={"model": "x" * 300})
    pairs = {"rewards/accuracies": 0.75, "logps/rejected": -40.0, "rewards/rejected": -1.0, "grad_norm": 1e5}
    rows = [
        {"step": step, "loss": 0.7 / step, **pairs}
        | {"rewards/margins": step / 3, "rewards/chosen": -step / 6, "logps/chosen": -20.0 - step}
        for step in range(1, 13)
    ]
    dpo = write_run(runs / "dpo", recipe="dpo", metrics=rows, result={"pairs": {attack: 3, "chosen_length": 20.5}})
    models = {attack: {"pass@1": 0.5, "pass@8": 1.0, "intervals": {"pass@1": [0.4, 0.6]}}, "y" * 200: {"pass@1": 0.1}}
    evaluation = {"models": models, "differences": {"y" * 200: {"difference": -0.4, "ci95": [-0.5, -0.3], "p": 1e-4}}}
    evaluation = write_run(
        runs / "eval", recipe="eval", metrics=[], before=None, after=None, result={"task": attack, **evaluation}
    )
    return {
        "run": report.write_report(hostile),
        "ppo": report.write_report(ppo),
        "dpo": report.write_report(dpo),
        "evaluation": report.write_report(evaluation),
        "over-optimization": report.write_report(over_optimization(runs / "over", attack)),
        "pipeline": report.write_report(pipeline),
        "comparison": report.write_comparison([hostile, pipeline, pipeline / "rl"], runs / "report.html"),
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", KINDS)
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
