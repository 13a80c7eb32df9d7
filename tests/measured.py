"""Small results folders, as `star-hf evaluate` leaves them, from what each item scored."""

from datasets import concatenate_datasets

from star_hf.evaluation.results.summary import summarise
from star_hf.evaluation.types import Item, Response, Verdict, responses_table, verdicts_table


def tables(benchmark, outcomes, judge="guard", part="answer", prompt="ask {}"):
    """Answers and verdicts of one benchmark: each item's samples as values 0 to 1, or the names of failures."""
    items, answers, verdicts = [], [], []
    for number, samples in enumerate(outcomes):
        items.append(Item(f"i{number}", prompt.format(number), category="even" if number % 2 == 0 else "odd"))
        for sample, outcome in enumerate(samples if isinstance(samples, list) else [samples]):
            failure = outcome if isinstance(outcome, str) else None
            by_model = failure if failure not in ("judge_error", "unparseable") else None
            answers.append(Response(f"i{number}", sample, None if by_model else "said", failure=by_model))
            value = None if failure else float(outcome)
            verdicts.append(Verdict(f"i{number}", sample, judge, part, value=value, failure=failure))
    return responses_table(benchmark, items, answers), verdicts_table(benchmark, verdicts)


def write_results(folder, outcomes, model="model", judge="guard", prompt="ask {}", **run):
    """Write a results folder with these outcomes per benchmark, and return it."""
    parts = [tables(name, values, judge, prompt=prompt) for name, values in outcomes.items()]
    answers, verdicts = (concatenate_datasets(list(part)) for part in zip(*parts, strict=True))
    about = {"profile": "recommended", "generation": {}, "judges": [], "data": {}, **run}
    folder.mkdir(parents=True, exist_ok=True)
    answers.to_parquet(folder / "responses.parquet")
    verdicts.to_parquet(folder / "verdicts.parquet")
    summarise(answers, verdicts, model={"name": model}, **about).save(folder)
    return folder
