import js from "@eslint/js";
import globals from "globals";

export default [
  { ignores: ["tests/generated/"] },
  js.configs.recommended,
  {
    files: ["client/**/*.js"],
    languageOptions: { globals: { ...globals.browser, io: "readonly" } },
  },
  {
    files: ["**/*.mjs", "eslint.config.js"],
    languageOptions: { globals: globals.node },
  },
];
