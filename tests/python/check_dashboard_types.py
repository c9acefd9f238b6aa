#!/usr/bin/env python3
"""Checks the dashboards against the types of `@grafana/schema`: the dashboard itself, and options and field settings of each panel.

It needs Node with npm, which installs the types and the TypeScript compiler into target/grafana-schema. The compiler also reports
names that the types do not have, so a misspelled option does not go unseen. The oldest and the newest version of Grafana are checked.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "target" / "grafana-schema"
TYPESCRIPT = "5.9.3"

# Versions of the schema, and the settings of tables that the dashboards have for other versions of Grafana only.
VERSIONS = {
    "11.6.0": ["wrapText", "hideFrom"],
    "13.2.2": ["hidden", "cellOptions.wrapText"],
}

# What the types leave out, but Grafana writes itself: of variables, and of annotations that the data source Prometheus makes.
NOT_IN_SCHEMA = {"templating": ["definition"], "annotations": ["expr", "step", "titleFormat", "textFormat", "tagKeys", "useValueForTime"]}

# The type of the settings of fields that panels of a type have beside those that all have.
FIELDS = {"stat": None, "bargauge": None, "timeseries": "FieldConfig", "table": "FieldConfig", "xychart": "FieldConfig", "text": None}

# JSON has the values of enumerations, and not their names. Options that a panel leaves out have defaults.
PRELUDE = """
import type { Dashboard } from '@grafana/schema';
type Plain<T> = T extends string ? `${T}` : T extends number ? (number extends T ? number : `${T}` extends `${infer N extends number}` ? N : T)
  : T extends (infer U)[] ? Plain<U>[] : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
"""


def panels(document):
    for panel in document["panels"]:
        yield panel
        yield from panel.get("panels", [])


def typed(name, kind, value):
    return f"export const {name}: {kind} = {json.dumps(value, indent=1, ensure_ascii=False)};\n"


def without(value, path):
    """A copy of an object without a property, which can be one of an inner object."""
    first, _, rest = path.partition(".")
    if first not in value or (rest and not isinstance(value[first], dict)):
        return value
    inner = {first: without(value[first], rest)} if rest else {}
    return {**{key: one for key, one in value.items() if key != first}, **inner}


def source(document, folder, skipped):
    for place, names in NOT_IN_SCHEMA.items():
        for one in document[place]["list"]:
            for name in names:
                one.pop(name, None)
    lines = [PRELUDE]
    for kind in FIELDS:
        # Versions have the types in different places.
        path = next((folder / "node_modules/@grafana/schema/dist").glob(f"*/raw/composable/{kind}/panelcfg/x/*types.gen.d.ts"))
        lines.append(f"import type * as {kind} from './{path.relative_to(folder)}';\n".replace(".d.ts", ""))
    lines.append(typed("dashboard", "Plain<Dashboard>", document))
    for panel in panels(document):
        if panel["type"] == "row":
            continue
        fields = FIELDS[panel["type"]]
        lines.append(f"// {panel['title']}\n")
        lines.append(typed(f"options{panel['id']}", f"Partial<Plain<{panel['type']}.Options>>", panel["options"]))
        config = panel.get("fieldConfig", {"defaults": {}, "overrides": []})
        custom = list(config["defaults"].get("custom", {}).items())
        for override in config["overrides"]:
            custom += [(one["id"][7:], one["value"]) for one in override["properties"] if one["id"].startswith("custom.")]
        kind = f"{panel['type']}.{fields}" if fields else "Record<string, never>"
        for index, (key, value) in enumerate(custom):
            setting = {key: value}
            for path in skipped if panel["type"] == "table" else ():
                setting = without(setting, path)
            lines.append(typed(f"custom{panel['id']}_{index}", f"Partial<Plain<{kind}>>", setting))
    return "".join(lines)


def check(version, skipped):
    folder = FOLDER / version
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"private": true}')
    packages = [f"@grafana/schema@{version}", f"typescript@{TYPESCRIPT}"]
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", *packages], cwd=folder, check=True)
    names = []
    for path in sorted((ROOT / "dashboards").glob("*.json")):
        names.append(f"{path.stem}.ts")
        (folder / names[-1]).write_text(source(json.loads(path.read_text(encoding="utf-8")), folder, skipped), encoding="utf-8")
    settings = ["--noEmit", "--strict", "--skipLibCheck", "--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler"]
    if subprocess.run([folder / "node_modules/.bin/tsc", *settings, *names], cwd=folder, check=False).returncode:
        sys.exit(f"The dashboards do not have the types of @grafana/schema {version}. The lines are those of {folder}/*.ts.")
    print(f"{len(names)} dashboards have the types of @grafana/schema {version}")


def main():
    for version, skipped in VERSIONS.items():
        check(version, skipped)


if __name__ == "__main__":
    main()
