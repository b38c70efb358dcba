// What the API says, as TypeScript: from the OpenAPI document that the node's own code writes (control/openapi.json).

import { readFileSync, writeFileSync } from "node:fs";

const root = new URL("../", import.meta.url);
const WANTED = ["OverviewView", "EventsView", "ConfigView", "Reloaded", "ProblemView", "AlarmItem", "ScalingItem", "VipView", "OperationView",
  "MachineAct", "HistoryPage", "ConfigFileView", "ConfigVersion", "ConfigText"];

/** The text of src/api.ts. */
export function types() {
  const document = JSON.parse(readFileSync(new URL("../control/openapi.json", root)));
  const schemas = document.components.schemas;
  const lines = ["// Generated from control/openapi.json by `npm run types`. `null` and absence mean the same: see merge() in live.ts.", ""];
  const done = new Set();
  const todo = WANTED.filter((name) => schemas[name]);
  const typeOf = (schema) => {
    if (schema.$ref) {
      const name = schema.$ref.split("/").pop();
      todo.push(name);
      return name;
    }
    if (schema.oneOf) return schema.oneOf.map((one) => (one.type === "null" ? "null" : typeOf(one))).join(" | ");
    if (schema.enum) return schema.enum.map((word) => JSON.stringify(word)).join(" | ");
    const kinds = [schema.type].flat();
    const one = (kind) => {
      switch (kind) {
        case "string": return "string";
        case "integer": case "number": return "number";
        case "boolean": return "boolean";
        case "null": return "null";
        case "array": return `${wrapped(typeOf(schema.items ?? {}))}[]`;
        case "object": return schema.additionalProperties ? `Record<string, ${typeOf(schema.additionalProperties)}>` : "Record<string, unknown>";
        default: return "unknown";
      }
    };
    return kinds.map(one).join(" | ");
  };
  const wrapped = (text) => (text.includes("|") ? `(${text})` : text);
  while (todo.length > 0) {
    const name = todo.shift();
    if (done.has(name)) continue;
    done.add(name);
    const schema = schemas[name];
    if (!schema.properties) {
      lines.push(`export type ${name} = ${typeOf(schema)};`, "");
      continue;
    }
    lines.push(`export interface ${name} {`);
    for (const [field, value] of Object.entries(schema.properties)) {
      const type = typeOf(value);
      const optional = type.includes("null") || !(schema.required ?? []).includes(field) ? "?" : "";
      if (value.description) lines.push(`  /** ${value.description.replaceAll("*/", "")} */`);
      lines.push(`  ${field}${optional}: ${type};`);
    }
    lines.push("}", "");
  }
  return lines.join("\n");
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  writeFileSync(new URL("src/api.ts", root), types());
}
