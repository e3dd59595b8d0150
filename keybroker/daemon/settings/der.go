package settings

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxFileBytes bounds one file of certificates or revocation lists.
const maxFileBytes = 4 << 20

// ReadDER reads files that hold one DER object or any number of PEM blocks.
func ReadDER(paths []string) (list [][]byte, err error) {
	for _, path := range paths {
		data, err := readBounded(path)
		if err != nil {
			return nil, err
		}
		block, rest := pem.Decode(data)
		if block == nil {
			list = append(list, data)
			continue
		}
		for ; block != nil; block, rest = pem.Decode(rest) {
			list = append(list, block.Bytes)
		}
	}
	return list, nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if len(data) > maxFileBytes {
		err = errors.Join(err, fmt.Errorf("%s has more than %d bytes", path, maxFileBytes))
	}
	return data, err
}
