//go:build !release

package client_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/client"
)

// brokerOfExample gives the test broker the parts of testing.TB that it needs; an example has
// no *testing.T. A test calls brokertest.New(t).
type brokerOfExample struct {
	testing.TB
	cleanup []func()
}

func (*brokerOfExample) Helper()                         {}
func (*brokerOfExample) Fatal(args ...any)               { log.Panic(args...) }
func (*brokerOfExample) Fatalf(text string, args ...any) { log.Panicf(text, args...) }
func (*brokerOfExample) Errorf(text string, args ...any) { log.Panicf(text, args...) }
func (b *brokerOfExample) Cleanup(f func())              { b.cleanup = append(b.cleanup, f) }

func (b *brokerOfExample) TempDir() string {
	dir, err := os.MkdirTemp("", "broker")
	if err != nil {
		log.Panic(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (b *brokerOfExample) end() {
	for i := len(b.cleanup) - 1; i >= 0; i-- {
		b.cleanup[i]()
	}
}

// A guest proves what it is, receives the key of a model, and wipes it when the lease is over.
func ExampleClient_Acquire() {
	var tb brokerOfExample
	defer tb.end()
	broker := brokertest.New(&tb)

	c, err := client.New(broker.ClientConfig())
	if err != nil {
		log.Panic(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	lease, err := c.Acquire(ctx, []string{brokertest.Resource})
	if err != nil {
		log.Panic(err)
	}
	defer lease.Wipe()
	key := lease.Keys[brokertest.Resource]
	fmt.Println("version", key.Version, "for", lease.TTL, "over", lease.TLSGroup)
	fmt.Println(key.Key.Len() == len(brokertest.Secret))
	// Output:
	// version 1 for 10m0s over X25519MLKEM768
	// true
}
