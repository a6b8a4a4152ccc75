// Command detect measures layer L1.
//
//	go run ./bench/detect eval DIR...     what it finds in labelled texts, set by set
//	go run ./bench/detect speed           what it costs, beside plain regular expressions
//
// eval reads every *.jsonl file of the folders named: a record a line with text,
// label ("attack" or "benign"), channel, and optionally set, family and split.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/guardbook/guardbook/detect/pattern"
	"github.com/guardbook/guardbook/rules"
)

func main() {
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: detect eval [-at T] [-show N] [-missed N] [-set NAME] [-rules] DIR... | detect speed")
	}
	flag.Parse()
	pack, err := pattern.Load(rules.FS)
	if err == nil {
		engine := pattern.New(pack, pattern.Options{})
		switch flag.Arg(0) {
		case "eval":
			err = eval(engine, flag.Args()[1:])
		case "speed":
			err = speed(pack)
		default:
			flag.Usage()
			os.Exit(2)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "detect:", err)
		os.Exit(1)
	}
}
