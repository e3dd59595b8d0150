package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// secretVector is what a client learned while it answered one kind of message.
type secretVector struct {
	kind   string
	values []float32
}

// probed are the kinds of message whose handlers learn something, and send it if they can.
func probed(api string) []string {
	if api == "legacy" {
		return []string{"fit", "evaluate-legacy", "get_parameters", "get_properties"}
	}
	return []string{"train", "train.special", "train.second", "train.returned", "train.failing", "train.coded", "evaluate", "evaluate.special", "evaluate.failing", "query", "query.special"}
}

// probe is a step: every type of message to the clients of one API. Protected ones answer
// nothing private; the others show that the search would find it.
func (d *flowerDemo) probe(api string, guarded bool) func(context.Context) (string, error) {
	client := map[bool]string{true: "protected:" + api, false: api + "_client:unprotected"}[guarded]
	return func(ctx context.Context) (string, error) {
		out, err := d.flwrRun(ctx, "probe_server:app", client, fmt.Sprintf("api=%q guarded=%v", api, guarded))
		if err != nil {
			return "", err
		}
		said := transcript(out, "PROBE", "PUBLISHED")
		if sent := fmt.Sprintf("SENT %d to %s clients", strings.Count(said, "PROBE"), api); !strings.Contains(out, sent) {
			return "", fmt.Errorf("not every message was answered:\n%s\nthe end of a SuperNode's log:\n%s", out, d.nodes[0].log)
		}
		if err := d.gather(); err != nil {
			return "", err
		}
		if guarded {
			d.carry()
			if api == "message" && !strings.Contains(said, "PUBLISHED train.special contributions=2") {
				return "", fmt.Errorf("the clients' submissions were not published:\n%s", out)
			}
			return said, nil
		}
		var carried [][]byte
		for _, l := range d.lines {
			carried = append(carried, l.carried()...)
		}
		found := find(d.private, carried)
		for _, kind := range probed(api) {
			if found[kind] == 0 {
				return "", fmt.Errorf("%s: the search finds nothing without protection, so it proves nothing\n%s", kind, out)
			}
			d.controls[kind] = found[kind]
		}
		return fmt.Sprintf("the search finds what %d kinds of message carry", len(probed(api))), nil
	}
}

// gather reads what the clients wrote down of what they learned.
func (d *flowerDemo) gather() error {
	files, err := filepath.Glob(d.path("evidence", "*.f32"))
	if err != nil {
		return err
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		v := secretVector{values: make([]float32, len(data)/4)}
		v.kind, _, _ = strings.Cut(filepath.Base(file), "@")
		if err := binary.Read(bytes.NewReader(data), binary.LittleEndian, v.values); err != nil {
			return err
		}
		d.private = append(d.private, v)
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	return nil
}

// search looks for everything that any client learned, in the control too, in all that the
// protected ones sent.
func (d *flowerDemo) search(context.Context) (string, error) {
	size := 0
	for _, c := range d.guarded {
		size += len(c)
	}
	kinds := map[string]int{}
	for _, v := range d.private {
		kinds[v.kind]++
	}
	found := find(d.private, d.guarded)
	var b strings.Builder
	fmt.Fprintf(&b, "%d bytes over %d connections, searched for %d vectors as float32 and float64 of both orders, hexadecimal and base64\n%-18s %9s %11s", size, len(d.guarded), len(d.private), "message", "protected", "unprotected")
	var leaked []string
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		fmt.Fprintf(&b, "\n%-18s %9d %11d", kind, found[kind], d.controls[kind])
		if found[kind] > 0 {
			leaked = append(leaked, kind)
		}
	}
	for kind := range d.controls {
		if kinds[kind] == 0 {
			return "", fmt.Errorf("%s: nothing was learned", kind)
		}
	}
	if len(leaked) > 0 {
		return "", fmt.Errorf("in the clear: %s\n%s", strings.Join(leaked, ", "), b.String())
	}
	if size == 0 || len(d.controls) < len(probed("message"))+len(probed("legacy")) {
		return "", errors.New("nothing was carried, or not every control was run")
	}
	return b.String(), nil
}

// find counts the parts of the vectors that are in the records, by the kind of message.
// A part is what no chance repeats: 16 bytes and more of neighbouring values.
func find(vectors []secretVector, records [][]byte) map[string]int {
	type pattern struct {
		kind string
		text []byte
	}
	byStart := map[uint64][]pattern{}
	for _, v := range vectors {
		for _, text := range patterns(v.values) {
			start := binary.LittleEndian.Uint64(text)
			byStart[start] = append(byStart[start], pattern{v.kind, text})
		}
	}
	found := map[string]int{}
	for _, r := range records {
		for i := 0; i+8 <= len(r); i++ {
			for _, p := range byStart[binary.LittleEndian.Uint64(r[i:])] {
				if bytes.HasPrefix(r[i:], p.text) {
					found[p.kind]++
				}
			}
		}
	}
	return found
}

// patterns are the parts of a vector in the forms in which it could be sent.
func patterns(values []float32) (out [][]byte) {
	const run = 4 // values
	var le4, be4, le8, be8 []byte
	for _, v := range values {
		le4 = binary.LittleEndian.AppendUint32(le4, math.Float32bits(v))
		be4 = binary.BigEndian.AppendUint32(be4, math.Float32bits(v))
		le8 = binary.LittleEndian.AppendUint64(le8, math.Float64bits(float64(v)))
		be8 = binary.BigEndian.AppendUint64(be8, math.Float64bits(float64(v)))
	}
	for i := 0; i+run <= len(values); i++ {
		if slices.Contains(values[i:i+run], 0) {
			continue // a model before its training
		}
		part := le4[4*i : 4*(i+run)]
		out = append(out, part, be4[4*i:4*(i+run)], le8[8*i:8*(i+run)], be8[8*i:8*(i+run)], []byte(hex.EncodeToString(part)))
		for offset := range 3 { // where base64's groups of three may begin
			out = append(out, []byte(base64.StdEncoding.EncodeToString(part[offset:offset+12])))
		}
	}
	return out
}

// listens says whether somebody takes connections there.
func listens(address string) bool {
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return false
	}
	return c.Close() == nil
}
