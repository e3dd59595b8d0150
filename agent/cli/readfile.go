package cli

import (
	"fmt"
	"io"
	"os"
)

// maxPolicyBytes bounds a policy or a file of reference values.
const maxPolicyBytes = 1 << 20

// ReadFile reads a file of at most 1 MiB.
func ReadFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPolicyBytes+1))
	if err == nil && len(data) > maxPolicyBytes {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxPolicyBytes)
	}
	return data, err
}
