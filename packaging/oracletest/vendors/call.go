//go:build oracle

package main

import (
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/packaging/oracletest"
)

// quiet sends standard output to nowhere, because the libraries write their log there, and returns
// what it was.
func quiet() (*os.File, error) {
	out, err := unix.Dup(unix.Stdout)
	if err != nil {
		return nil, err
	}
	nowhere, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(out), "answers"), unix.Dup3(int(nowhere.Fd()), unix.Stdout, 0)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// guarded calls a library; what it does in a panic is an error here.
func guarded(call func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return call()
}

// batches is how often calls are measured; the best counts, as machines do other work, too.
const batches = 10

// measured is what one of n calls takes.
func measured(n int, call func()) (c oracletest.Cost) {
	for range batches {
		if n == 0 {
			return c
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		for range n {
			call()
		}
		took := int64(time.Since(start)) / int64(n)
		runtime.ReadMemStats(&after)
		if c.Nanoseconds == 0 || took < c.Nanoseconds {
			c = oracletest.Cost{Nanoseconds: took, Bytes: int64(after.TotalAlloc-before.TotalAlloc) / int64(n),
				Allocations: int64(after.Mallocs-before.Mallocs) / int64(n)}
		}
	}
	return c
}
