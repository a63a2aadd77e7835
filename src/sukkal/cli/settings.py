"""`sukkal settings`: what can be set."""

import click

from sukkal import config


@click.command()
@click.option("--markdown", is_flag=True, help="Print the page docs/settings.md.")
def settings(*, markdown: bool) -> None:
    """List every setting.

    For each: its default, its environment variable and flag, what it may be, what it does.
    """
    click.echo(config.markdown() if markdown else "\n".join(map(_text, config.describe())), nl=False)


def _text(setting: config.Setting) -> str:
    names = ", ".join(filter(None, (setting.variable, setting.flag)))
    about = click.wrap_text(setting.description.replace("`", ""), 100, "    ", "    ")
    default = setting.default.replace("`", "")
    return f"{setting.name} = {default}\n    {names}: {setting.allowed}\n{about}\n"
