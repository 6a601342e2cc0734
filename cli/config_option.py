"""What every verb with a run has in common: `--config`, and options that several verbs share as one group.

`verb` makes the command of a function. A parameter whose type is a frozen dataclass stands for the options that are
its fields. `--config FILE` gives options from a run file (`datasets/plain_yaml.py`) or repeats a run from the record
beside its result (`cli/replay.py`); what is typed wins. Used by the verbs' files; imports only typer.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restore.cli import signals
from restore.cli.many import Choice, Many, register, run_verb
from restore.cli.slicer_xml import SLICER, describe
from restore.config import did_you_mean
from restore.errors import ConfigError

if TYPE_CHECKING:
    from restore.cli.replay import Record
    from restore.datasets.plain_yaml import Value, Word

DEEPEST = 4
"""Levels of a run file: the file, `set:`, a method's settings in it, a list of values."""
GIVEN = "restore.config"
"""Where a context keeps what its run file says."""
_given: ContextVar[Given | None] = ContextVar("_given", default=None)
"""What `--config` gave to the call at work."""
NAME_OF_VERB = "verb"
"""The one name in a run file that is no option: it says for which verb the file is."""


@dataclasses.dataclass
class Given:
    """What `--config` gave to one call: the file, settings to put before those typed, and the record if it is one.

    typed: the parameters that were typed besides.
    """

    path: Path
    assignments: dict[str, list[str]]
    record: Record | None = None
    typed: set[str] = dataclasses.field(default_factory=set)


def verb(
    name: str, *, many: Many | None = None, goes_on: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., None]]:
    """Turn a function into the command of `restore NAME`, with `--config`, and `--xml` where Slicer runs it.

    many: how it takes many inputs, None where it takes one. goes_on: what a signal ends is kept, and the same command
    goes on with it.
    """

    def command_of(function: Callable[..., Any]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        groups = {p.name: p.annotation for p in signature.parameters.values() if _is_group(p)}
        single = _taking_options(function, groups)
        if many is not None:
            job = single if many.job is None else _taking_options(many.job, groups)
            register(name, single, job)

        def command(context: typer.Context, config: Path | None, **options: Any) -> None:
            options.pop("xml", None)
            given = context.meta.get(GIVEN)
            _given.set(given)
            if many is not None:
                options[many.argument] = _alone(options[many.argument], many, given)
            if given is not None:
                given.typed = typed_in(context)
                _join(given, options)
            try:
                if many is None:
                    single(options)
                    return
                chosen = Choice(**{f.name: options.pop(f.name) for f in dataclasses.fields(Choice)})
                run_verb(context, name, many, options, chosen)
            except signals.Ended as ended:
                ended.goes_on |= goes_on
                raise
            except ConfigError as error:
                if given is None:
                    raise
                raise ConfigError(f"{error} (with the options of {given.path})") from error

        added = [
            inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
            _config_option(name),
        ]
        if name in SLICER:
            own = list(_parameters(signature, None))
            added.append(_xml_option(lambda: describe(name, own, function.__doc__ or "")))
        parameters = [*_parameters(signature, many), *added]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__doc__ = function.__doc__
        return command

    return command_of


def _config_option(name: str) -> inspect.Parameter:
    """`--config`: what the file says becomes the defaults of the call."""

    def read(context: typer.Context, config: Path | None) -> Path | None:
        if config is not None and not context.resilient_parsing:
            context.meta[GIVEN] = _defaults(context, name, config)
        return config

    told = f"Options of a YAML file{_OR_RECORD.get(name, '')}; what is typed wins."
    option = typer.Option("--config", metavar="FILE", is_eager=True, callback=read, help=told)
    return inspect.Parameter(
        "config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[Path | None, option]
    )  # fmt: skip


def _xml_option(describe_verb: Callable[[], str]) -> inspect.Parameter:
    """`--xml`: print the description and end."""

    def tell(wanted: bool) -> None:
        if wanted:
            typer.echo(describe_verb(), nl=False)
            raise typer.Exit

    option = typer.Option(
        "--xml", is_eager=True, callback=tell, help="Print what 3D Slicer is told of this verb."
    )
    return inspect.Parameter(
        "xml", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, option]
    )


_OR_RECORD = dict.fromkeys(
    ("recon", "volume", "image"), ", or the record OUT.json of a run to repeat it"
)


def config_file() -> Path | None:
    """The file that `--config` of the verb at work named."""
    given = _given.get()
    return None if given is None else given.path


def check_beside(found: dict[str, Any]) -> None:
    """Where a run is repeated, compare what is read beside its inputs with what was. found: as the record's entry.

    Raises InputError.
    """
    given = _given.get()
    if given is not None and given.record is not None:
        given.record.check_beside(found, given.typed)


def typed_in(context: typer.Context) -> set[str]:
    """Names of the parameters that were typed on the command line."""
    sources = {
        p.name: context.get_parameter_source(p.name) for p in context.command.params if p.name
    }
    return {
        n for n, source in sources.items() if source is not None and source.name == "COMMANDLINE"
    }


def _alone(words: Any, many: Many, given: Given | None) -> Any:
    """The only input as itself, where the verb takes one. Raises ConfigError for several of a record, which has one."""
    if not many.several:
        return words
    if len(words) > 1 and given is not None and given.record is not None:
        raise ConfigError(f"{given.path}: repeats the run of one input, got {len(words)}")
    return words[0] if len(words) == 1 else words


def _taking_options(
    function: Callable[..., Any], groups: dict[str, Any]
) -> Callable[[dict[str, Any]], Any]:
    """The function as one of its command's parameters by name, those of a group put together."""

    def taking(options: dict[str, Any]) -> Any:
        rest = dict(options)
        for parameter, group in groups.items():
            names = [f.name for f in dataclasses.fields(group)]
            rest[parameter] = group(**{n: rest.pop(n) for n in names})
        return function(**rest)

    return taking


def _is_group(parameter: inspect.Parameter) -> bool:
    return dataclasses.is_dataclass(parameter.annotation)


def _parameters(signature: inspect.Signature, many: Many | None) -> Iterator[inspect.Parameter]:
    """Keyword parameters of a command: those of the function, groups as their fields, and those of many inputs."""
    for parameter in signature.parameters.values():
        found = _fields(parameter.annotation) if _is_group(parameter) else [parameter]
        for each in found:
            several = many is not None and many.several and each.name == many.argument
            annotation = _several_of(each.annotation) if several else each.annotation
            yield each.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=annotation)
    if many is not None:
        yield from _fields(Choice)


def _fields(group: Any) -> Iterator[inspect.Parameter]:
    hints = typing.get_type_hints(group, include_extras=True)
    for field in dataclasses.fields(group):
        absent = field.default is dataclasses.MISSING
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, annotation=hints[field.name],
            default=inspect.Parameter.empty if absent else field.default,
        )  # fmt: skip


def _several_of(annotation: Any) -> Any:
    """The annotation of an argument that may be given several times."""
    one, *told = typing.get_args(annotation)
    return Annotated[list[one], *told]  # type: ignore[valid-type]


def _defaults(context: typer.Context, name: str, path: Path) -> Given:
    """Make the values of a run file or a record the defaults of a call.

    Raises InputError, ConfigError, NotFoundError.
    """
    from restore.cli.replay import read_record
    from restore.datasets.plain_yaml import Word, read_plain_yaml

    record = read_record(path) if path.suffix.lower() == ".json" else None
    values = read_plain_yaml(path, DEEPEST) if record is None else dict(record.values)
    wanted = values.pop(NAME_OF_VERB, Word(name))
    if not isinstance(wanted, Word) or wanted.text != name:
        words = f"'{wanted.text}'" if isinstance(wanted, Word) else "no name"
        raise ConfigError(f"{path}: is for the verb {words}, not for 'restore {name}'")
    options = {_key(p): p for p in context.command.params if _key(p) not in ("config", "help")}
    given, defaults = Given(path, {}, record), dict[str, Any]()
    for key, value in values.items():
        plain = key.replace("-", "_")
        if plain not in options:
            near = did_you_mean(plain, options)
            raise ConfigError(f"{path}: '{key}' is no option of `restore {name}`{near}")
        found = _converted(context, options[plain], value, f"{path}: {key}")
        if found is not None and _is_assignments(options[plain]):
            given.assignments.setdefault(options[plain].name, [])[:0] = found
        elif found is not None and plain == "steps" and "set" in options:
            given.assignments.setdefault(options["set"].name, []).append(f"n_steps={found}")
        elif found is not None:
            defaults[options[plain].name] = found
    context.default_map = defaults
    return given


def _key(parameter: Any) -> str:
    """The first long name of an option without its dashes, of an argument what the help shows."""
    if parameter.param_type_name == "argument":
        return (parameter.metavar or parameter.name).lower().replace("-", "_")
    named = next((o for o in parameter.opts if o.startswith("--")), parameter.opts[0])
    return named.lstrip("-").replace("-", "_")


def _is_assignments(option: Any) -> bool:
    """Whether an option is repeated with NAME=VALUE: a run file gives it as a mapping."""
    return bool(option.multiple and option.metavar and "=" in option.metavar)


def _converted(context: typer.Context, option: Any, value: Value, where: str) -> Any:
    """A value as the option takes it, tried out on the option; None for one that is not given. Raises ConfigError."""
    several = option.multiple or option.nargs == -1
    if several:
        found: Any = _several(option, value, where)
    else:
        word = _one(value, where)
        if word.kind == "none":
            return None
        if getattr(option, "is_flag", False):
            if word.kind != "truth":
                raise ConfigError(f"{where}: true or false was expected, got '{word.text}'")
            return word.text.lower() in ("true", "yes", "on")
        found = word.text
    try:
        option.process_value(context, found)
    except typer.BadParameter as error:
        shown = ", ".join(found) if several else found
        raise ConfigError(f"{where}: '{shown}' will not do: {error.message}") from error
    return found


def _several(option: Any, value: Value, where: str) -> list[str]:
    if isinstance(value, dict):
        if not _is_assignments(option):
            raise ConfigError(f"{where}: a list was expected, got names with values")
        return [f"{name}={text}" for name, text in _pairs(value, where)]
    return [_one(v, where).text for v in (value if isinstance(value, list) else [value])]


def _pairs(values: dict[str, Value], where: str, before: str = "") -> Iterator[tuple[str, str]]:
    """Names and texts of a mapping; of one in it with a dot between; lists with commas."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _pairs(value, f"{where}.{name}", f"{before}{name}.")
        elif isinstance(value, list):
            yield before + name, ",".join(_one(v, f"{where}.{name}").text for v in value)
        else:
            yield before + name, value.text


def _one(value: Value, where: str) -> Word:
    if isinstance(value, list | dict):
        kind = "a list" if isinstance(value, list) else "names with values"
        raise ConfigError(
            f"{where}: one value was expected, got {kind} (several go into one text: '4,8')"
        )
    return value


def _join(given: Given, options: dict[str, Any]) -> None:
    """Put settings of the file before those typed, so that the typed ones win name by name; check a record's files."""
    if given.record is None or given.record.keeps_settings(given.typed):
        for name, texts in given.assignments.items():
            options[name] = [*texts, *(options[name] or [])]
    if given.record is not None:
        given.record.check(given.typed, options)
