package main

import (
	"context"
	"fmt"
	"io"

	"github.com/anchorhold/anchorhold/systemd/service"
)

// reload has the running agent read its configuration again, waits for the verdict and
// returns the exit code.
func reload(ctx context.Context, out, complaint io.Writer) int {
	if err := service.AskReload(ctx, "anchorhold-agent"); err != nil {
		fmt.Fprintf(complaint, "anchorhold-agent: %v\n", err)
		return 1
	}
	fmt.Fprintln(out, "configuration read again")
	return 0
}
