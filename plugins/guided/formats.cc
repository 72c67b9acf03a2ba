// The values of "format" that are kept to.
#include "formats.h"

namespace engine::guided {
namespace {

#define GUIDED_DATE                                                     \
  "(?:[1-9][0-9]{3})-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|" \
  "(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
#define GUIDED_TIME                                              \
  "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,6})?" \
  "(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
#define GUIDED_LABEL "[A-Za-z0-9]{1,20}(?:-[A-Za-z0-9]{1,20}){0,2}"
#define GUIDED_HOST GUIDED_LABEL "(?:\\." GUIDED_LABEL "){0,2}\\.[A-Za-z]{2,10}"
#define GUIDED_BYTE "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"

struct Format {
  std::string_view name, regex;
};
constexpr Format kFormats[] = {
    {"date", GUIDED_DATE},
    {"time", GUIDED_TIME},
    {"date-time", GUIDED_DATE "T" GUIDED_TIME},
    {"uuid", "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"},
    {"ipv4", "(?:" GUIDED_BYTE "\\.){3}" GUIDED_BYTE},
    {"ipv6", "(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}"},
    {"hostname", GUIDED_HOST},
    {"email", "[A-Za-z0-9_+-]{1,20}(?:\\.[A-Za-z0-9_+-]{1,20}){0,2}@" GUIDED_HOST},
    {"uri", "https?://" GUIDED_HOST "(?::[1-9][0-9]{1,3})?(?:/[A-Za-z0-9._~-]{0,64}){0,16}"
            "(?:\\?[A-Za-z0-9._~=&-]{0,256})?(?:#[A-Za-z0-9._~-]{0,64})?"},
};

}  // namespace

std::string_view FormatRegex(std::string_view format) {
  for (const Format& each : kFormats) {
    if (each.name == format) return each.regex;
  }
  return {};
}

}  // namespace engine::guided
