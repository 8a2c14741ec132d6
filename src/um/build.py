"""`um build`: the workflow, stage by stage, so that it stops where bytes are equal."""

import subprocess
from collections.abc import Sequence

from um.plan import RULES, STAGES
from um.provenance import jobs, tools


def build(words: Sequence[str]) -> int:
    """Run Snakemake for one stage after the other; return its first exit code that is not 0, else 0.

    Within one run, Snakemake rebuilds what follows from a job even if the job's bytes are as before. Between runs it
    compares bytes. So each stage is a run of its own, planned after the stage before.

    Args:
        words: further words of Snakemake's command line: options, no targets.
    """
    tools.check_checkout("um build")
    done: list[str] = []
    while True:
        planned = tools.run("snakemake", "--dry-run", "--quiet", "rules", *words)
        stages = {RULES[rule] for rule in jobs.rules_of(planned) if rule in RULES}
        stage = next((stage for stage in STAGES if stage in stages and stage not in done), None)
        if stage is None:
            print("everything is up to date" if not done else f"built: {', '.join(done)}")
            return 0
        if code := subprocess.run([tools.path_of("snakemake"), *words, "--", stage]).returncode:
            return code
        done.append(stage)
