# cmake -DIN=file -DOUT=file.cc -DNAME=symbol -P embed.cmake: the bytes of IN as a C array.
file(READ ${IN} bytes HEX)
string(LENGTH "${bytes}" digits)
math(EXPR size "${digits} / 2")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)"
       "\\1\n" bytes "${bytes}")
file(WRITE ${OUT} "// Made from ${IN} by embed.cmake.
#include <cstddef>
namespace engine::graph {
extern const unsigned char ${NAME}[];
extern const size_t ${NAME}Size;
const unsigned char ${NAME}[] = {\n${bytes}\n};
const size_t ${NAME}Size = ${size};
}  // namespace engine::graph
")
