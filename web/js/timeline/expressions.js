/** Arithmetic as animation/expressions.py reads it: "0.5 + sin(t / 10)" becomes a function of { t, max_f, frames }. */

const TOKEN = /(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.])|(?<![\w.])[A-Za-z_]\w*|\*\*|\/\/|[<>=!]=|[-+*/%&|<>(),]/g;
const CONSTANTS = { pi: Math.PI, e: Math.E };

/** By numpy's names: each function, and the fewest and the most numbers that it takes. */
const FUNCTIONS = {
  arctan2: [Math.atan2, 2, 2],
  min: [Math.min, 2, 9],
  max: [Math.max, 2, 9],
  where: [(test, yes, no) => (test !== 0 ? yes : no), 3, 3],
  round: [roundToEven, 1, 1],
};
for (const name of "sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh".split(" ")) {
  FUNCTIONS[name.replace(/^a/, "arc")] = [Math[name], 1, 1];
}
for (const name of "log log10 log1p exp expm1 sqrt abs floor ceil".split(" ")) FUNCTIONS[name] = [Math[name], 1, 1];

/** How strongly each operator binds, and what it does. */
const [COMPARISON, SIGN] = [1, 6];
const OPERATORS = {
  __proto__: null, // so that names are none
  ...strength(COMPARISON, { "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b }),
  ...strength(COMPARISON, { "==": (a, b) => a === b, "!=": (a, b) => a !== b }),
  ...strength(2, { "|": (a, b) => a !== 0 || b !== 0 }),
  ...strength(3, { "&": (a, b) => a !== 0 && b !== 0 }),
  ...strength(4, { "+": (a, b) => a + b, "-": (a, b) => a - b }),
  ...strength(5, { "*": (a, b) => a * b, "/": (a, b) => a / b, "%": modulo, "//": floorDivide }),
  ...strength(7, { "**": (a, b) => (a === 1 ? 1 : a ** b) }),
};

function strength(number, operators) {
  return Object.fromEntries(Object.entries(operators).map(([sign, apply]) => [sign, [number, (a, b) => Number(apply(a, b))]]));
}

function floorDivide(a, b) {
  return b ? Math.round((a - modulo(a, b)) / b) : a / b;
}

function modulo(a, b) {
  const rest = a % b;
  return rest && rest < 0 !== b < 0 ? rest + b : rest;
}

function roundToEven(x) {
  const rounded = Math.round(x);
  return Math.abs(x % 1) === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}

/**
 * @param {string[]} names what the expression may name
 * @returns {(values: Record<string, number>) => number}
 * @throws {SyntaxError} also for a few forms that Python takes: chained comparisons, 0x10, 1_000
 */
export function compile(text, names) {
  const tokens = text.match(TOKEN) ?? [];
  if (text.length > 1000 || text.replace(TOKEN, "").trim()) throw new SyntaxError(text);

  function need(...signs) {
    const sign = tokens.shift();
    if (!signs.includes(sign)) throw new SyntaxError(`${signs} is missing`);
    return sign;
  }

  function operation(weakest) {
    let run = operand();
    for (let least = weakest; ; ) {
      const [strength, apply] = OPERATORS[tokens[0]] ?? [0];
      if (strength < least) return run;
      const [left, right] = [run, operation(tokens.shift() === "**" ? SIGN : strength + 1)];
      run = (values) => apply(left(values), right(values));
      if (strength === COMPARISON) least = COMPARISON + 1;
    }
  }

  function operand() {
    const token = tokens.shift();
    if (token === "+") return operation(SIGN);
    if (token === "-") {
      const run = operation(SIGN);
      return (values) => -run(values);
    }
    if (token === "(") return inBrackets()[0];
    if (names.includes(token)) return (values) => values[token];
    if (Object.hasOwn(CONSTANTS, token)) return () => CONSTANTS[token];
    if (Object.hasOwn(FUNCTIONS, token)) return call(...FUNCTIONS[token]);
    if (!Number.isFinite(Number(token)) || /^0+[1-9]\d*$/.test(token)) throw new SyntaxError(`${token} is not known`);
    return () => Number(token);
  }

  function inBrackets(most = 1) {
    const parts = [operation(COMPARISON)];
    while (need(",", ")") === ",") parts.push(operation(COMPARISON));
    if (parts.length > most) throw new SyntaxError(`${parts.length} are too many`);
    return parts;
  }

  function call(apply, fewest, most) {
    need("(");
    const parts = inBrackets(most);
    if (parts.length < fewest) throw new SyntaxError(`${parts.length} are too few`);
    return (values) => apply(...parts.map((part) => part(values)));
  }

  const run = operation(COMPARISON);
  if (tokens.length) throw new SyntaxError("the expression goes on where it should end");
  return run;
}
