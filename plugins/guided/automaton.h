// Languages over code points as graphs, so that several conditions can hold of one text: a pattern
// and a length, two patterns, a pattern and not certain words. Counts are unrolled for it, so only
// what stays under the limit of states can be treated like this.
// Invariant: the labels of a graph made here are classes or Empty().
#ifndef PLUGINS_GUIDED_AUTOMATON_H_
#define PLUGINS_GUIDED_AUTOMATON_H_

#include <string>
#include <string_view>
#include <vector>

#include "ast.h"

namespace engine::guided {

// The functions that answer bool give false for what would take too many states; nothing is wrong
// with the grammar then.

// REQUIRES: `node` has no calls, no graphs of other labels and no Texts().
bool ToAutomaton(Grammar* grammar, Node node, Graph* graph);
// What both hold.
bool Intersect(Grammar* grammar, const Graph& a, const Graph& b, Graph* both);
// All texts of `min` to `max` code points; max may be kInfinite.
bool Lengths(Grammar* grammar, uint32_t min, uint32_t max, Graph* graph);
// All texts of code points of `set` that are none of `words`.
bool AllBut(Grammar* grammar, const CodeSet& set, std::vector<std::string> words, Graph* graph);

bool Holds(const Grammar& grammar, const Graph& graph, std::string_view text);

struct LengthRange {
  uint32_t min = 0, max = 0;  // code points; min is kInfinite when there is no text
};
LengthRange LengthsOf(const Grammar& grammar, Node node);

}  // namespace engine::guided

#endif  // PLUGINS_GUIDED_AUTOMATON_H_
