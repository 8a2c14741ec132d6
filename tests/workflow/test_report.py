"""The report of a built demo, by Snakemake, and Snakemake's own report with its figures."""

import json
import zipfile

from um.report.figures.captions import CAPTIONS


def test_the_report_is_built_and_its_figures_are_in_snakemakes(workspace):
    workspace.done("snakemake", "--cores", "all", "report")
    page = (workspace / "results/report.html").read_text()
    assert page.count("<figure>") == len(CAPTIONS)
    assert "Left out" not in page
    score = json.loads((workspace / "results/demo/seed1/metrics.json").read_text())["model"]["weights"]
    assert score in page
    files = {path.name for path in (workspace / "results/report-figures/demo").iterdir()}
    assert files == {f"{name}.{form}" for name in CAPTIONS for form in ("svg", "png")}
    assert "Nothing to be done" in workspace.done("snakemake", "--cores", "all", "report")
    assert workspace.idle()  # what is recorded is as it was

    workspace.done("snakemake", "report", "--report", "report.zip")
    with zipfile.ZipFile(workspace / "report.zip") as archive:
        names = archive.namelist()
        text = archive.read("report/report.html").decode()
    for name, caption in CAPTIONS.items():
        assert any(path.endswith(f"{name}.svg") for path in names)
        assert caption.title in text
        assert caption.text[:30] in text

    (workspace / "src/um/report/figures/captions.py").open("a").write("# edited\n")
    assert "report" in workspace.done("snakemake", "-n", "report")
    assert "Nothing to be done" in workspace.done("snakemake", "-n")
