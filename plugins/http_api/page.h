// The page to chat with, as page.html has it.
#ifndef PLUGINS_HTTP_API_PAGE_H_
#define PLUGINS_HTTP_API_PAGE_H_

#include <string_view>

namespace engine::http_api {

std::string_view ChatPage();

}  // namespace engine::http_api

#endif  // PLUGINS_HTTP_API_PAGE_H_
