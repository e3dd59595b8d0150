//go:build ignore

// Command bench_peer_ours is this project's side of .ci/bench-peer. `seal IN OUT` seals a model;
// `serve FLAGS FILE` opens it and answers lines on its standard input, each with a line of JSON.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/chunkseal/chunksealtest"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/infer"
	"github.com/anchorhold/anchorhold/runtime/kernels"
	"github.com/anchorhold/anchorhold/runtime/sealer"
	"github.com/anchorhold/anchorhold/runtime/tokenize"
	"github.com/anchorhold/anchorhold/runtime/weights"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench_peer_ours:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	key, err := keybuf.Take(bytes.Repeat([]byte{9}, chunkseal.KeySize))
	if err != nil {
		return err
	}
	defer key.Wipe()
	p := chunksealtest.NewPublisher(3)
	if len(args) == 3 && args[0] == "seal" {
		_, err := sealer.Seal(context.Background(), sealer.Options{In: args[1], Out: args[2], Key: key, Name: "bench", Version: 1, Sign: p.Sign})
		return err
	}
	if len(args) < 2 || args[0] != "serve" {
		return errors.New("usage: bench_peer_ours seal IN OUT | serve [FLAGS] FILE")
	}
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	s := &server{key: key, publisher: p}
	flags.IntVar(&s.threads, "threads", 1, "compute `threads`")
	flags.IntVar(&s.sequences, "sequences", 1, "`sequences` at once")
	flags.IntVar(&s.context, "context", 1024, "`tokens` of the longest sequence")
	flags.Int64Var(&s.mib, "mib", 4096, "the budget of weights and engine, in `MiB`")
	mode := flags.String("mode", "resident", "resident, streamed or auto")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	s.path, s.mode = flags.Arg(0), weights.Mode(*mode)
	return s.serve()
}

type server struct {
	key       *keybuf.Buffer
	publisher chunkseal.Publisher
	path      string
	mode      weights.Mode
	mib       int64
	threads   int
	sequences int
	context   int

	weights *weights.Weights
	engine  *infer.Engine
	seed    uint64
}

// result is what one line is answered with: tokens, bytes, or both, in a time.
type result struct {
	Tokens int     `json:"tokens,omitempty"`
	Bytes  int64   `json:"bytes,omitempty"`
	Wall   float64 `json:"wall"`
	CPU    float64 `json:"cpu"`
	First  float64 `json:"first,omitempty"` // of two turns, the first's time to its first token
}

func (s *server) open(budget *arena.Budget, opt weights.Options) (*weights.Weights, error) {
	opt.Publisher = s.publisher
	return weights.Open(s.path, s.key, budget, opt)
}

func (s *server) start() error {
	budget := arena.NewBudget(s.mib << 20)
	look, err := s.open(arena.NewBudget(64<<20), weights.Options{Workers: s.threads, Mode: weights.Streamed})
	if err != nil {
		return err
	}
	file, err := gguf.ParseHeader(look.Header())
	if err != nil {
		return err
	}
	need, err := infer.Memory(infer.Config{File: file, Threads: s.threads, Context: s.context, MaxSequences: s.sequences})
	if err = errors.Join(err, look.Close()); err != nil {
		return err
	}
	opt := weights.Options{Workers: s.threads, Mode: s.mode}
	if s.mode == weights.Auto {
		opt.Reserve = need + 64<<10
	}
	if s.weights, err = s.open(budget, opt); err != nil {
		return err
	}
	if file, err = gguf.ParseHeader(s.weights.Header()); err != nil {
		return err
	}
	s.engine, err = infer.New(infer.Config{Source: s.weights, File: file, Budget: budget, Threads: s.threads, Context: s.context, MaxSequences: s.sequences})
	return err
}

func (s *server) serve() error {
	if err := s.start(); err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(result{}); err != nil { // it is ready
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		n := 0
		if len(words) > 1 {
			n, _ = strconv.Atoi(words[1])
		}
		do, ok := map[string]func(int) (result, error){
			"decode": s.decode, "prompt": s.prompt, "streams": s.streams, "turns": s.turns, "load": s.load, "read": s.read, "pass": s.pass,
		}[words[0]]
		if !ok {
			return fmt.Errorf("unknown command %q", words[0])
		}
		r, err := do(n)
		if err == nil {
			err = out.Encode(r)
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(lines.Err(), s.engine.Close(), s.weights.Close())
}

func cpu() float64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano()).Seconds()
}

// watch is a time of both kinds.
type watch struct {
	wall time.Time
	cpu  float64
}

func begin() watch { return watch{time.Now(), cpu()} }

func (w watch) end(r result) result {
	r.Wall, r.CPU = time.Since(w.wall).Seconds(), cpu()-w.cpu
	return r
}

// decode computes n tokens, sampled, from the second of an answer on. Answers that end early count
// with what they have, and another one follows.
func (s *server) decode(n int) (result, error) {
	prompt := s.engine.Tokenizer().Encode("Once upon a time there was a", false)
	var sum result
	for sum.Tokens < n {
		var w watch
		s.seed++
		seed := s.seed
		r, err := s.engine.Generate(context.Background(), infer.Request{Prompt: prompt, MaxTokens: n - sum.Tokens + 1, Temperature: 1, Seed: &seed}, func(string) error {
			if w.wall.IsZero() {
				w = begin()
			}
			return nil
		})
		if err != nil {
			return sum, err
		}
		if r.CompletionTokens > 1 {
			part := w.end(result{})
			sum.Tokens, sum.Wall, sum.CPU = sum.Tokens+r.CompletionTokens-1, sum.Wall+part.Wall, sum.CPU+part.CPU
		}
	}
	return sum, nil
}

// prompt computes a prompt of n tokens and one token of the answer.
func (s *server) prompt(n int) (result, error) {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(i*37%40000 + 1000)
	}
	w := begin()
	_, err := s.engine.Generate(context.Background(), infer.Request{Prompt: ids, MaxTokens: 1}, func(string) error { return nil })
	return w.end(result{Tokens: n}), err
}

// streams computes n answers of 32 tokens at once.
func (s *server) streams(n int) (result, error) {
	prompt := s.engine.Tokenizer().Encode("Once upon a time there was a", false)
	var wg sync.WaitGroup
	tokens, errs := make([]int, n), make([]error, n)
	w := begin()
	for i := range n {
		s.seed++
		seed := s.seed
		wg.Go(func() {
			var r infer.Result
			r, errs[i] = s.engine.Generate(context.Background(), infer.Request{Prompt: prompt, MaxTokens: 32, Temperature: 1, TopP: 0.95, Seed: &seed}, func(string) error { return nil })
			tokens[i] = r.CompletionTokens
		})
	}
	wg.Wait()
	total := 0
	for _, k := range tokens {
		total += k
	}
	return w.end(result{Tokens: total}), errors.Join(errs...)
}

// turns answers two turns of a chat and gives the times to their first tokens.
func (s *server) turns(round int) (result, error) {
	messages := []tokenize.Message{{Role: "user", Content: fmt.Sprintf("Here is list %d. ", round) + strings.Repeat("Apples, pears and three plums. ", 70) + "What is the first fruit?"}}
	var firsts [2]float64
	for turn := range firsts {
		ids, err := s.engine.Template().Encode(s.engine.Tokenizer(), messages, true)
		if err != nil {
			return result{}, err
		}
		var text strings.Builder
		w := begin()
		_, err = s.engine.Generate(context.Background(), infer.Request{Prompt: ids, MaxTokens: 24, Owner: "bench"}, func(piece string) error {
			if text.Len() == 0 {
				firsts[turn] = w.end(result{}).Wall
			}
			text.WriteString(piece)
			return nil
		})
		if err != nil {
			return result{}, err
		}
		messages = append(messages, tokenize.Message{Role: "assistant", Content: text.String()}, tokenize.Message{Role: "user", Content: "And the second?"})
	}
	return result{First: firsts[0], Wall: firsts[1]}, nil
}

// load opens the model once more, resident: the median of n times.
func (s *server) load(n int) (result, error) {
	var list []result
	for range n {
		w := begin()
		m, err := s.open(arena.NewBudget(4<<30), weights.Options{Mode: weights.Resident, Workers: s.threads})
		if err != nil {
			return result{}, err
		}
		list = append(list, w.end(result{Bytes: m.Public().PlainBytes}))
		if err := m.Close(); err != nil {
			return result{}, err
		}
	}
	slices.SortFunc(list, func(a, b result) int { return int(1e9 * (a.CPU - b.CPU)) })
	return list[len(list)/2], nil
}

// read reads memory as decoding does, in pages of 2 MiB, with all threads: the median of n rounds.
func (s *server) read(n int) (result, error) {
	const size, piece = 256 << 20, 1024
	region, err := arena.NewBudget(size).Map("bandwidth", size)
	if err != nil {
		return result{}, err
	}
	set, err := kernels.Select("auto")
	if err != nil {
		return result{}, errors.Join(err, region.Release())
	}
	values := region.Float32s()
	for i := range values {
		values[i] = 1
	}
	var list []result
	for range n {
		var wg sync.WaitGroup
		w := begin()
		for t := range s.threads {
			part := values[t*len(values)/s.threads : (t+1)*len(values)/s.threads]
			wg.Go(func() {
				with := make([]float32, piece)
				for at := 0; at+piece <= len(part); at += piece {
					set.Dot(part[at:at+piece], with)
				}
			})
		}
		wg.Wait()
		list = append(list, w.end(result{Bytes: size}))
	}
	slices.SortFunc(list, func(a, b result) int { return int(1e9 * (a.Wall - b.Wall)) })
	return list[len(list)/2], region.Release()
}

// pass says how many bytes of weights a token reads.
func (s *server) pass(int) (result, error) {
	m, err := s.open(arena.NewBudget(64<<20), weights.Options{Mode: weights.Streamed, Workers: s.threads})
	if err != nil {
		return result{}, err
	}
	return result{Bytes: m.PassBytes()}, m.Close()
}
