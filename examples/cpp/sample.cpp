// Images of an export, with the arguments and files of ../node/sample.mjs; a sheet is a grey PGM, one column of images:
//   sample ../../exports/vae --n 64 --seed 0 --out samples.pgm
//   sample ../../exports/vae --codes codes.bin --out images.bin
// Of a conditional model, --label is the index of a class in label.classes of card.json; a guided one takes --guidance.
#include <onnxruntime_cxx_api.h>
#include <openssl/sha.h>

#include <cmath>
#include <fstream>
#include <iostream>
#include <map>
#include <numeric>
#include <random>

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("there must be a file " + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string verified(const std::string& folder, const std::string& name) {  // if it is what the manifest names
  const std::string manifest = read(folder + "/manifest.json"), content = read(folder + "/" + name);
  uint8_t digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const uint8_t*>(content.data()), content.size(), digest);
  std::string hex;
  for (uint8_t byte : digest) hex += {"0123456789abcdef"[byte / 16], "0123456789abcdef"[byte % 16]};
  const size_t at = std::min(manifest.find('"' + name + '"'), manifest.size());
  if (manifest.substr(at, manifest.find('}', at) - at).find('"' + hex + '"') == std::string::npos)
    throw std::runtime_error(name + " must have the SHA-256 that the manifest names, but has " + hex);
  return content;
}

int main(int count, char** words) try {
  std::map<std::string, std::string> given{
      {"--n", "64"}, {"--seed", "0"}, {"--out", "samples.pgm"}, {"--label", "0"}, {"--guidance", "1"}};
  for (int at = 2; at + 1 < count; at += 2) given[words[at]] = words[at + 1];
  const bool decodes = given.count("--codes"), draws = !decodes && !given.count("--noise");
  const std::string graph = verified(count > 1 ? words[1] : ".", decodes ? "decoder.onnx" : "generator.onnx");
  Ort::Env environment(ORT_LOGGING_LEVEL_FATAL);  // errors are thrown; the log would repeat them
  Ort::Session session(environment, graph.data(), graph.size(), Ort::SessionOptions());
  std::vector<int64_t> size = session.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape();
  const int64_t width = std::accumulate(size.begin() + 1, size.end(), int64_t{1}, std::multiplies());
  const std::string file = draws ? "" : read(given[decodes ? "--codes" : "--noise"]);
  if (file.size() % sizeof(float)) throw std::runtime_error("rows must be float32, but have a part of a number");
  std::vector<float> rows(draws ? std::stoul(given["--n"]) * width : file.size() / sizeof(float));
  if (rows.empty() || rows.size() % width) throw std::runtime_error("rows must be " + std::to_string(width) + " wide");
  std::mt19937 bits(std::stoul(given["--seed"]));
  for (std::normal_distribution<float> normal; float& value : rows) value = normal(bits);
  file.copy(reinterpret_cast<char*>(rows.data()), file.size());
  const char *names[] = {decodes ? "z" : "noise", "label", "guidance"}, *output = "image";
  size[0] = rows.size() / width;
  std::vector<int64_t> labels(size[0], std::stol(given["--label"]));
  std::vector<float> guidance(size[0], std::stof(given["--guidance"]));
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeCPU);
  const Ort::Value inputs[] = {
      Ort::Value::CreateTensor<float>(memory, rows.data(), rows.size(), size.data(), size.size()),
      Ort::Value::CreateTensor<int64_t>(memory, labels.data(), labels.size(), size.data(), 1),
      Ort::Value::CreateTensor<float>(memory, guidance.data(), guidance.size(), size.data(), 1)};
  const auto images = session.Run(Ort::RunOptions(), names, inputs, session.GetInputCount(), &output, 1);
  const auto about = images[0].GetTensorTypeAndShapeInfo();
  const int64_t total = about.GetElementCount(), across = about.GetShape()[3];
  const float* pixels = images[0].GetTensorData<float>();
  std::ofstream out(given["--out"], std::ios::binary);
  const bool raw = given["--out"].ends_with(".bin");
  if (raw) out.write(reinterpret_cast<const char*>(pixels), total * sizeof(float));
  if (!raw) out << "P5 " << across << ' ' << total / across << " 255\n";
  for (int64_t at = raw ? total : 0; at < total; ++at) out.put(std::lround(255 * pixels[at]));
  if (!out.flush()) throw std::runtime_error("there must be room for " + given["--out"]);
} catch (const std::exception& error) { return std::cerr << "error: " << error.what() << '\n', 1; }
