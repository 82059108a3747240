"""``rlrun eval RUN``: play greedy episodes with a trained agent."""

from __future__ import annotations

from rlrun.cli.arguments import Parser, add_outputs, take_imports
from rlrun.cli.output import counted, deliver_json, deliver_line, shown_number, shown_path
from rlrun.cli.playing import add_player, blamed_on_config, open_to_play
from rlrun.errors import UsageError

_KEYS = ("return_mean", "return_std", "return_iqm", "return_min", "return_max")

_EXAMPLES = """examples:
  rlrun eval latest
  rlrun eval 2026-11-24/0930 --episodes 20 --seed 7 --returns
  rlrun eval latest --checkpoint last --json"""


def main(arguments: list[str]) -> int:
    """Evaluate a run."""
    parser = Parser("eval", "Play greedy episodes with a trained agent and print what they returned.", _EXAMPLES)
    add_player(parser, episodes=100)
    add = parser.add_argument
    add("--returns", action="store_true", help="print the return of every episode, too")
    add("--json", action="store_true", help="print one JSON object")
    add_outputs(parser)
    options = parser.parse_intermixed_args(take_imports(arguments))
    run, checkpoint = open_to_play(
        options.run, options.outputs, options.checkpoint, options.device, options.secrets, "rlrun eval"
    )

    from rlrun.evaluation import evaluate_run  # imports torch

    try:
        result = evaluate_run(run, options.episodes, options.seed, checkpoint)
    except UsageError as error:
        raise blamed_on_config(run, error) from error
    keys = [*_KEYS, "episodes", "checkpoint", *(["returns"] if options.returns else [])]
    if options.json:
        deliver_json({key: result[key] for key in keys}, indent=None)
        return 0
    deliver_line(
        f"{shown_path(run.directory)}: checkpoint {result['checkpoint']}, {counted(result['episodes'], 'episode')}"
    )
    for key in _KEYS:
        deliver_line(f"  {key.removeprefix('return_'):<5} {shown_number(result[key], 2):>12}")
    if options.returns:
        deliver_line("  " + " ".join(f"{value:g}" for value in result["returns"]))
    return 0
