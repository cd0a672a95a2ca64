import js from "@eslint/js";
import globals from "globals";

/** Forbids a folder of `client/` to import some others, and to touch some globals. */
function layer(folder, others, unknown = []) {
  const patterns = others.map((other) => ({ regex: `/${other}/`, message: `client/${folder} knows no ${other}.` }));
  const rules = {
    "no-restricted-imports": ["error", { patterns }],
    "no-restricted-globals": ["error", ...unknown],
  };
  return [{ files: [`client/${folder}/**/*.js`], rules }];
}

export default [
  { ignores: ["tests/generated/"] },
  js.configs.recommended,
  {
    files: ["client/**/*.js"],
    languageOptions: { globals: { ...globals.browser, io: "readonly" } },
  },
  // Which folder of the page may import which, and that what decides knows no document.
  ...layer("app", ["docs"]),
  ...layer("browser", ["app", "views", "models", "follow", "docs"]),
  ...layer("docs", ["app", "views", "models", "follow"]),
  ...layer("follow", ["app", "views", "models", "browser", "docs"], ["document", "window", "localStorage"]),
  ...layer("job", ["app", "views", "models", "browser", "docs"], ["document", "window", "localStorage"]),
  ...layer("models", ["app", "views", "browser", "docs"], ["document", "window", "localStorage"]),
  ...layer("views", ["app", "docs"]),
  {
    files: ["**/*.mjs", "eslint.config.js"],
    languageOptions: { globals: globals.node },
  },
];
