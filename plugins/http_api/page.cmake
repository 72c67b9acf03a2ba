# cmake -DIN=page.html -DOUT=page.cc -P page.cmake: the page as a raw string, in pieces that
# compilers take.
file(READ ${IN} text)
string(LENGTH "${text}" size)
set(at 0)
set(pieces "")
while(at LESS size)
  string(SUBSTRING "${text}" ${at} 8000 piece)
  string(APPEND pieces "    R\"page(${piece})page\"\n")
  math(EXPR at "${at} + 8000")
endwhile()
file(WRITE ${OUT} "// Made from page.html.
#include \"page.h\"
namespace engine::http_api {
std::string_view ChatPage() {
  static constexpr std::string_view kPage =
${pieces};
  return kPage;
}
}  // namespace engine::http_api
")
