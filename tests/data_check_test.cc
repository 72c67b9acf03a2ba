// Files to train on, from their bytes to what is asked of the model: which tokens of a conversation
// count, beside transformers and its chat templates (T-18); what is said of files that are bad, by
// data_check, by dataset and by `engine data check`.
#include <algorithm>
#include <memory>

#include "engine/model/formats/gguf.h"
#include "engine/model/formats/gguf_writer.h"
#include "tests/cli.h"
#include "tests/process.h"
#include "tests/support.h"

namespace engine::tests {
namespace {

using testing::AnyOf;
using testing::StartsWith;

// The tokenizer of the real model with more special tokens and another chat template, on a Llama of
// one block that is good for nothing else. As a GGUF file.
void WriteChatModel(const std::string& path, const std::string& chat_template,
                    const std::string& bos, const std::string& eos,
                    const std::vector<std::string>& specials) {
  std::unique_ptr<model::GgufFile> real;
  ASSERT_TRUE(model::GgufFile::Open(RealModel(), &real).ok());
  const auto texts = [&](const char* key) {
    const auto& strings = real->Find(key)->strings;
    return std::vector<std::string>(strings.begin(), strings.end());
  };
  std::vector<std::string> tokens = texts("tokenizer.ggml.tokens");
  std::vector<int32_t> types;
  for (const int64_t type : real->Find("tokenizer.ggml.token_type")->integers) {
    types.push_back(static_cast<int32_t>(type));
  }
  for (const std::string& special : specials) {
    tokens.push_back(special);
    types.push_back(3);  // a control token
  }
  const auto id = [&](const std::string& token) {
    const auto at = std::find(tokens.begin(), tokens.end(), token);
    EXPECT_NE(at, tokens.end()) << token;
    return static_cast<uint32_t>(at - tokens.begin());
  };
  constexpr int64_t kHidden = 32;
  const auto vocab = static_cast<int64_t>(tokens.size());
  model::GgufWriter writer;
  const auto text = [&](const char* key, std::string_view value) { writer.Add(key, value); };
  const auto number = [&](const char* key, int64_t value) {
    writer.Add(key, static_cast<uint32_t>(value));
  };
  text("general.architecture", "llama");
  number("llama.embedding_length", kHidden);
  number("llama.block_count", 1);
  number("llama.attention.head_count", 2);
  number("llama.attention.head_count_kv", 2);
  number("llama.feed_forward_length", kHidden);
  number("llama.context_length", 4096);
  number("llama.vocab_size", vocab);
  writer.Add("llama.rope.freq_base", 10000.0f);
  writer.Add("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  text("tokenizer.ggml.model", "gpt2");
  text("tokenizer.ggml.pre", real->Find("tokenizer.ggml.pre")->s);
  writer.Add("tokenizer.ggml.tokens", tokens);
  writer.Add("tokenizer.ggml.token_type", types);
  writer.Add("tokenizer.ggml.merges", texts("tokenizer.ggml.merges"));
  number("tokenizer.ggml.bos_token_id", id(bos));
  number("tokenizer.ggml.eos_token_id", id(eos));
  text("tokenizer.chat_template", chat_template);
  std::vector<model::GgufWriter::Tensor> tensors;
  const auto tensor = [&](const std::string& name, std::vector<int64_t> shape) {
    const int64_t count = shape.size() == 1 ? shape[0] : shape[0] * shape[1];
    const std::vector<float> values(static_cast<size_t>(count), shape.size() == 1 ? 1.0f : 0.01f);
    tensors.push_back(
        {name, std::move(shape), model::Encoding::kF32, [values](model::OutputFile* out) {
           return out->Append(values.data(), values.size() * sizeof(float));
         }});
  };
  tensor("token_embd.weight", {vocab, kHidden});
  for (const char* name : {"attn_norm", "ffn_norm"}) {
    tensor("blk.0." + std::string(name) + ".weight", {kHidden});
  }
  for (const char* name :
       {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"}) {
    tensor("blk.0." + std::string(name) + ".weight", {kHidden, kHidden});
  }
  tensor("output_norm.weight", {kHidden});
  const Status status = writer.Write(path, tensors);
  ASSERT_TRUE(status.ok()) << status.message();
}

class DataCheckTest : public CliTest {
 protected:
  // The model of tests that care for no template.
  std::string Chat() {
    const std::string path = Path("chat.gguf");
    if (!fs::exists(path)) {
      WriteChatModel(path,
                     "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
                     "<|im_end|>\n{% endfor %}"
                     "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
                     "<|im_start|>", "<|im_end|>", {});
    }
    return path;
  }
  std::string Resource(const std::string& model) const {
    return "resource { name: \"model\"  load { path: \"" + model + "\" } }\n";
  }
  // What data_check says, as an object; *status is that of the run.
  json Report(const std::string& file, const std::string& dataset = "",
              const std::string& more = "show: 1000  problems: 1000",
              const std::string& model = "") {
    status_ = RunPipeline(Resource(model.empty() ? Chat() : model) +
                          "node { name: \"check\"  data_check { dataset { path: \"" + file +
                          "\"  " + dataset + " }  format: JSON  " + more + "  path: \"" +
                          Path("report.json") + "\" }  use: \"model\" }");
    const std::string text = ReadAll(Path("report.json"));
    fs::remove(Path("report.json"));
    EXPECT_FALSE(text.empty()) << status_.message();
    return text.empty() ? json() : json::parse(text);
  }
  // How many labels count in what dataset gives.
  int64_t Labels(const std::string& file, const std::string& dataset) {
    status_ =
        RunPipeline(Resource(Chat()) + "node { name: \"data\"  dataset { path: \"" + file +
                    "\"  shuffle: false  " + dataset + " }  use: \"model\"  out: \"batches\" }\n" +
                    "node { name: \"loss\"  evaluate { path: \"" + Path("loss.json") +
                    "\" }  in: \"batches\"  use: \"model\" }");
    if (!status_.ok()) return -1;
    return json::parse(ReadAll(Path("loss.json")))["tokens"].get<int64_t>();
  }
  Status status_;
};

std::string Line(const std::string& question, const std::string& answer) {
  return json{{"messages",
               {{{"role", "user"}, {"content", question}},
                {{"role", "assistant"}, {"content", answer}}}}}
             .dump() +
         "\n";
}

// --- Beside transformers -------------------------------------------------------------------------

// Written by tests/parity/make_loss_masks.py.
TEST_F(DataCheckTest, IdsAndMasksAreThoseOfTransformersForRealTemplates) {
  // Ordered, since templates write objects in the order of their keys.
  using Ordered = nlohmann::ordered_json;
  const auto all = Ordered::parse(ReadAll(ENGINE_SOURCE_DIR "/tests/data/loss_masks.json"));
  const Ordered& conversations = all["conversations"];
  std::string lines;
  for (const Ordered& c : conversations) {
    Ordered line = {{"messages", c["messages"]}};
    if (!c["tools"].is_null()) line["tools"] = c["tools"];
    lines += line.dump() + "\n";
  }
  const std::string file = Write("conversations.jsonl", lines);
  size_t equal = 0, refused = 0;
  for (const Ordered& t : all["templates"]) {
    SCOPED_TRACE(t["name"].get<std::string>());
    const std::string model = Path(t["name"].get<std::string>() + ".gguf");
    WriteChatModel(model, t["template"], t["bos"], t["eos"], t["specials"]);
    const json report = Report(file, "sequence: 4096", "show: 1000  problems: 1000", model);
    fs::remove(model);
    ASSERT_EQ(report["examples"], conversations.size()) << report.dump();
    ASSERT_EQ(report["good"].get<size_t>() + report["bad"].get<size_t>(), conversations.size());
    size_t shown = 0, problem = 0;
    for (size_t i = 0; i < conversations.size(); ++i) {
      const std::string where = file + ":" + std::to_string(i + 1);
      SCOPED_TRACE(where);
      const Ordered& want = t["cases"][i];
      if (want.contains("refused")) {
        ASSERT_LT(problem, report["problems"].size());
        EXPECT_THAT(report["problems"][problem++].get<std::string>(),
                    AllOf(StartsWith(where + ": "),
                          HasSubstr(want["refused"] == "place" ? "so that its place is not known"
                                                               : "chat template: ")));
        ++refused;
        continue;
      }
      ASSERT_LT(shown, report["shown"].size());
      const json& got = report["shown"][shown++];
      EXPECT_EQ(got["where"], where);
      EXPECT_EQ(got["ids"].get<std::vector<int>>(), want["ids"].get<std::vector<int>>());
      const auto counts = want["counts"].get<std::string>();
      std::vector<int> labels(counts.size(), -100);
      for (size_t k = 1; k < counts.size(); ++k) {
        if (counts[k] == '1') labels[k - 1] = want["ids"][k].get<int>();
      }
      EXPECT_EQ(got["labels"].get<std::vector<int>>(), labels);
      ++equal;
    }
  }
  EXPECT_GE(equal, 50u);
  EXPECT_GE(refused, 5u);
}

// --- Bad files -----------------------------------------------------------------------------------

TEST_F(DataCheckTest, BadLinesAreToldWithPlaceAndRemedyAndCanBeSkipped) {
  const std::string good = Line("Hi", "Hello!"), other = Line("And?", "No more.");
  const struct {
    const char* name;
    std::string line, dataset, words;
  } cases[] = {
      {"broken JSON", "{\"messages\": [{\"role\": \"user\"\n", "",
       "no JSON, at byte 30: syntax error while parsing object - unexpected end of input; an "
       "example is one whole JSON object"},
      {"wrong columns", "{\"question\": \"a\", \"answer\": \"b\"}\n", "",
       "there is no 'messages'; the fields are 'question', 'answer'; columns can name another one: "
       "\"messages=...\""},
      {"the assistant begins",
       "{\"messages\": [{\"role\": \"assistant\", \"content\": \"I begin\"}]}\n", "",
       "message 1: the conversation begins with the assistant; before its first answer there must "
       "be a message of the user"},
      {"a megabyte", Line(std::string(1 << 20, 'x'), "y"), "max_line_bytes: 65536",
       "the example is longer than 65536 bytes; max_line_bytes can allow more"},
      {"no UTF-8", "{\"messages\": \"M\xfcll\"}\n", "",
       "no UTF-8, at byte 16; convert the file, as \"iconv -f LATIN1 -t UTF-8\" does"},
      {"no answer", "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}\n", "",
       "the conversation has no answer to train on: no message of the assistant"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    const std::string file = Write("f.jsonl", good + c.line + other);
    const json report = Report(file, c.dataset);
    EXPECT_EQ(status_.code(), ENGINE_INVALID_ARGUMENT);
    EXPECT_THAT(std::string(status_.message()), HasSubstr("1 of 3 examples in '"));
    EXPECT_EQ(report["shape"], "MESSAGES");
    EXPECT_EQ(report["good"], 2);
    EXPECT_EQ(report["bad"], 1);
    ASSERT_EQ(report["problems"].size(), 1u);
    const std::string place = file + ":2: ";
    EXPECT_EQ(report["problems"][0], place + c.words);
    // dataset says the same, and goes on without it when it may.
    EXPECT_EQ(Labels(file, c.dataset), -1);
    EXPECT_THAT(std::string(status_.message()), HasSubstr(place + c.words));
    EXPECT_EQ(Labels(file, c.dataset + " on_bad: SKIP"), report["labels"]["total"]);
  }
}

TEST_F(DataCheckTest, ALongLineThatIsAllowedIsCutOrLeftOut) {
  std::string words;
  while (words.size() < 1 << 20) words += "word and ";
  const std::string file = Write("f.jsonl", Line("Hi", "Hello!") + Line("Go", words));
  const json cut = Report(file, "sequence: 64");
  EXPECT_TRUE(status_.ok()) << status_.message();
  EXPECT_EQ(cut["good"], 2);
  EXPECT_EQ(cut["cut"], 1);
  EXPECT_GT(cut["tokens"]["max"], 100000);
  EXPECT_EQ(cut["cut_tokens"], cut["tokens"]["max"].get<int>() - 64);
  const json skip = Report(file, "sequence: 64  too_long: SKIP");
  EXPECT_TRUE(status_.ok()) << status_.message();
  EXPECT_EQ(skip["good"], 1);
  EXPECT_EQ(skip["left_out"]["long"], 1);
  EXPECT_EQ(Labels(file, "sequence: 64  too_long: SKIP"), skip["labels"]["total"]);
  EXPECT_EQ(Labels(file, "sequence: 64"), cut["labels"]["total"]);
}

TEST_F(DataCheckTest, TokenIdsOutOfRangeAreToldByPosition) {
  std::string bytes;
  for (const int id : {5, 6, 7, 8, 9, 65535, 11, 12, 13, 14}) {
    bytes += static_cast<char>(id & 255);
    bytes += static_cast<char>(id >> 8);
  }
  const std::string file = Write("f.bin", bytes);
  const json report = Report(file, "sequence: 4");
  EXPECT_EQ(report["shape"], "TOKENS");
  EXPECT_EQ(report["examples"], 3);
  EXPECT_EQ(report["good"], 2);
  ASSERT_EQ(report["problems"].size(), 1u);
  const std::string words = report["problems"][0];
  EXPECT_THAT(words, AllOf(StartsWith(file + ": token 5 is 65535; the model has ids 0 to "),
                           HasSubstr("see width and header_bytes")));
  EXPECT_EQ(report["shown"][1]["where"], file + ": token 8");
  EXPECT_EQ(Labels(file, "sequence: 4"), -1);
  EXPECT_THAT(std::string(status_.message()), HasSubstr(words));
  EXPECT_EQ(Labels(file, "sequence: 4  on_bad: SKIP"), 4);
}

TEST_F(DataCheckTest, FilesThatCannotBeReadAtAll) {
  const struct {
    std::string name, text, words;
  } cases[] = {
      {"f.jsonl", "", "' is empty; a data set has an example"},
      {"f.jsonl", "\n \n", "' has no example"},
      {"f.json", "[{\"text\": \"a\"},\n 5]", ":2: the list must hold objects"},
      {"f.jsonl", "{\"a\": 1}\n{\"b\": 2}\n",
       ":1: no known shape has the fields 'a'; known are text; prompt, completion; messages"},
      {"f.txt", "good\nM\xfcll\n", ":2: this line is no UTF-8; convert the file, as \"iconv"},
      {"f.bin", "abc", "' has 3 bytes, which are no ids of 2 bytes each"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.words);
    const std::string file = Write(c.name, c.text);
    const json report = Report(file);
    ASSERT_EQ(report["problems"].size(), 1u);
    EXPECT_THAT(report["problems"][0].get<std::string>(), HasSubstr(file + c.words));
    EXPECT_THAT(std::string(status_.message()), HasSubstr(file + c.words));
    EXPECT_EQ(Labels(file, ""), -1);
    EXPECT_THAT(std::string(status_.message()), HasSubstr(file + c.words));
  }
}

TEST_F(DataCheckTest, NothingOfUseFails) {
  const std::string file = Write("f.jsonl", Line("A long question, all of it", "x"));
  const json report = Report(file, "sequence: 4");
  EXPECT_THAT(std::string(status_.message()), HasSubstr("none of 1 example in '"));
  EXPECT_EQ(report["left_out"]["unlabelled"], 1);
  EXPECT_EQ(report["bad"], 0);
}

// The shapes that others keep their conversations in, under names of their own.
TEST_F(DataCheckTest, ColumnsOfShareGptAndMessagesAreMapped) {
  const json plain = Report(Write("a.jsonl", Line("Hi", "Hello!")));
  for (const auto& [line, columns] :
       {std::pair{R"({"conversations": [{"from": "human", "value": "Hi"},
                                        {"from": "gpt", "value": "Hello!"}]})",
                  ""},
        std::pair{
            R"({"turns": [{"who": "human", "says": "Hi"}, {"who": "gpt", "says": "Hello!"}]})",
            R"(columns: "conversations=turns" columns: "from=who" columns: "value=says")"},
        std::pair{R"({"dialog": [{"who": "user", "says": "Hi"},
                                 {"who": "assistant", "says": "Hello!"}]})",
                  R"(columns: "messages=dialog" columns: "role=who" columns: "content=says")"}}) {
    std::string one = line;
    std::replace(one.begin(), one.end(), '\n', ' ');
    const json report = Report(Write("b.jsonl", one + "\n"), columns);
    EXPECT_TRUE(status_.ok()) << status_.message();
    EXPECT_EQ(report["shown"][0]["ids"], plain["shown"][0]["ids"]) << line;
    EXPECT_EQ(report["shown"][0]["labels"], plain["shown"][0]["labels"]) << line;
  }
}

// --- The command ---------------------------------------------------------------------------------

TEST_F(DataCheckTest, TheCommandTellsPeople) {
  const std::string good = Write("good.jsonl", Line("Hi", "Hello!") + Line("Well?", "Yes, well."));
  const Outcome run = RunEngine({"data", "check", good, "--model", Chat()});
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_EQ(run.err, "");
  EXPECT_THAT(run.out, AllOf(HasSubstr(good + ": one object a line, shape MESSAGES, 2 examples\n"),
                             HasSubstr("  good      2\n"), HasSubstr("  bad       0\n"),
                             HasSubstr("example " + good +
                                       ":1, 14 tokens:\n"
                                       "  masked  \"<|im_start|>user\\nHi<|im_end|>\\n"
                                       "<|im_start|>assistant\\n\"\n"
                                       "  counts  \"Hello!<|im_end|>\"\n"
                                       "  masked  \"\\n\"\n"),
                             Not(HasSubstr("problems"))));
  std::string many = Line("Hi", "Hello!");
  for (int i = 0; i < 12; ++i) many += "{\n";
  const std::string bad = Write("bad.jsonl", many);
  const Outcome wrong = RunEngine({"data", "check", bad, "--model", Chat()});
  EXPECT_EQ(wrong.code, 1);
  EXPECT_THAT(wrong.out, AllOf(HasSubstr("problems, the first 10 of 12:\n  " + bad + ":2: no JSON"),
                               HasSubstr(bad + ":11: "), Not(HasSubstr(bad + ":12: "))));
  EXPECT_THAT(wrong.err, HasSubstr("12 of 13 examples in '" + bad + "' are bad; mend them"));
}

TEST_F(DataCheckTest, TheCommandGivesOneObject) {
  const std::string file = Write("qa.jsonl", "{\"q\": \"2+2=\", \"a\": \"4\"}\n");
  const Outcome run = RunEngine({"data", "check", "--model", Chat(), "--json", "--columns",
                                 "prompt=q", "--columns", "completion=a", file, "--sequence", "32",
                                 "--train-on", "ALL", "--shape", "PROMPT_COMPLETION"});
  ASSERT_EQ(run.code, 0) << run.err;
  ASSERT_EQ(Lines(run.out).size(), 1u);
  const json report = json::parse(run.out);
  EXPECT_EQ(report["shape"], "PROMPT_COMPLETION");
  EXPECT_EQ(report["sequence"], 32);
  EXPECT_EQ(report["labels"]["total"], report["tokens"]["total"].get<int>() - 1);
  const Outcome set = RunEngine({"data", "check", file, "--model", Chat(), "--json", "--set",
                                 "check.dataset.max_line_bytes=16"});
  EXPECT_EQ(set.code, 1);
  EXPECT_THAT(json::parse(set.out)["problems"][0].get<std::string>(),
              HasSubstr(file + ":1: the example is longer than 16 bytes"));
}

TEST_F(DataCheckTest, TheCommandNamesWhatIsWrong) {
  const Outcome missing = RunEngine({"data", "check", Path("none.jsonl"), "--model", Chat()});
  EXPECT_EQ(missing.code, 2);
  EXPECT_THAT(missing.err, HasSubstr("there is no file or folder \"" + Path("none.jsonl")));
  const Outcome empty =
      RunEngine({"data", "check", Write("empty.jsonl", ""), "--model", Chat(), "--json"});
  EXPECT_EQ(empty.code, 1);
  EXPECT_THAT(empty.err, HasSubstr("empty.jsonl' is empty; a data set has an example"));
  EXPECT_EQ(json::parse(empty.out)["problems"].size(), 1u);
  const std::string file = Write("f.jsonl", Line("Hi", "Ho"));
  const Outcome shape = RunEngine({"data", "check", file, "--model", Chat(), "--shape", "CHATS"});
  EXPECT_EQ(shape.code, 2);
  EXPECT_THAT(shape.err, AllOf(HasSubstr("CHATS"), HasSubstr("SHAREGPT")));
  const Outcome columns = RunEngine({"data", "check", file, "--model", Chat(), "--columns", "x=y"});
  EXPECT_EQ(columns.code, 1);
  EXPECT_THAT(columns.err, HasSubstr("'x' is none of our names"));
  const Outcome model = RunEngine({"data", "check", file, "--model", Path("no.gguf")});
  EXPECT_EQ(model.code, 1);
  EXPECT_THAT(model.err, HasSubstr("no.gguf"));
  EXPECT_EQ(RunEngine({"data", "check"}).code, 2);
}

// What dataset leaves out is counted and told when the run ends.
TEST_F(DataCheckTest, WhatIsSkippedIsTold) {
  const std::string file = Write("f.jsonl", Line("Hi", "Hello!") + "{\n" + Line("So", "Yes"));
  const std::string pipeline =
      Write("p.pbtxt", Resource(Chat()) + "node { name: \"data\"  dataset { path: \"" + file +
                           "\"  shuffle: false  on_bad: SKIP }  use: \"model\"  out: \"b\" }\n"
                           "node { name: \"loss\"  evaluate { }  in: \"b\"  use: \"model\" }\n");
  const Outcome run = RunEngine({"run", pipeline});
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_THAT(run.err, HasSubstr("left out of 3 examples: 1 that are no examples (the first: " +
                                 file + ":2: no JSON"));
}

}  // namespace
}  // namespace engine::tests
