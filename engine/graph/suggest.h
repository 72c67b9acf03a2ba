// "did you mean": the name, among those that would be right, that is nearest to what was written.
#ifndef ENGINE_GRAPH_SUGGEST_H_
#define ENGINE_GRAPH_SUGGEST_H_

#include <string>
#include <string_view>
#include <vector>

namespace engine::graph {

// Insertions, deletions, replacements and swaps of neighbours, letters compared without case;
// greater than `limit` comes back as limit + 1.
int EditDistance(std::string_view a, std::string_view b, int limit);

// Empty when nothing is near enough to be what was meant.
std::string Nearest(std::string_view written, const std::vector<std::string>& right);

// `did you mean "x"?`, or else `known kinds: a, b, c` (`what` is "kinds"); empty without any.
std::string DidYouMean(std::string_view written, const std::vector<std::string>& right,
                       std::string_view what);

// The text between double quotes, cut when very long, control characters replaced.
std::string Quote(std::string_view text);

}  // namespace engine::graph

#endif  // ENGINE_GRAPH_SUGGEST_H_
