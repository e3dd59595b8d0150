// Command anchorhold-initrd is the first process of a guest of the image: /init in its initial RAM disk. See package
// image/initrd.
package main

import (
	"fmt"
	"os"

	"github.com/anchorhold/anchorhold/image/initrd"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "anchorhold-initrd is the first process of a guest and does nothing else")
		os.Exit(2)
	}
	initrd.End(initrd.Boot())
	os.Exit(1) // the machine is still on: the end of the first process is a panic of the kernel
}
